"""Sentences of the toybox and the tokenizer with their words."""

import numpy as np
import pytest

from longlive_core.toybox import captions, world
from longlive_core.toybox.stories import HELD_OUT_PROMPTS, STORY

tokenizers = pytest.importorskip("tokenizers")


def _shipped_tokenizer():
    from longlive_core.checkpoints.built_in import TOKENIZER_FILE, weights_folder

    return tokenizers.Tokenizer.from_file(str(weights_folder() / TOKENIZER_FILE))


def test_sentences_read_back_to_what_they_were_made_from():
    """Forbids wordings that mean two things, such as a colour word of the setting read as the subject's."""
    rng = np.random.default_rng(0)
    for _ in range(1500):
        requested = world.random_attributes(rng)
        assert captions.attributes_of(captions.caption(requested, rng)) == requested


def test_the_shipped_tokenizer_knows_every_word_of_every_sentence():
    """Forbids a tokenizer.json older than the captions (words would silently become <unk>)."""
    tokenizer, rng = _shipped_tokenizer(), np.random.default_rng(0)
    unknown, end = tokenizer.token_to_id("<unk>"), tokenizer.token_to_id("</s>")
    for _ in range(500):
        ids = tokenizer.encode(captions.caption(world.random_attributes(rng), rng)).ids
        assert unknown not in ids and ids[-1] == end and len(ids) <= 32
    assert unknown in tokenizer.encode("A panda.").ids


def test_the_twenty_prompts_are_held_out():
    """Forbids judging the model by combinations it was trained on."""
    assert len(set(HELD_OUT_PROMPTS)) == 20
    assert all(world.is_held_out(captions.attributes_of(text)) for text in HELD_OUT_PROMPTS)


def test_the_story_is_six_segments_of_the_toybox():
    """Forbids a story whose words the model does not know."""
    lines = STORY.splitlines()
    assert len(lines) == 6
    looks = [captions.attributes_of(line.split(" ", 1)[1]) for line in lines]
    assert all(a != b for a, b in zip(looks, looks[1:], strict=False))


def test_a_sentence_without_a_known_shape_is_an_error():
    """Forbids a guess where the sentence does not say."""
    with pytest.raises(ValueError, match="shape"):
        captions.attributes_of("A red panda bounces on the sea.")
