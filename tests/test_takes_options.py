"""Seeds and blends of single segments: what they change, and that a film with them continues as if never stopped."""

import pytest
import torch

from longlive_core.engine.noise import AddressedNoise
from longlive_core.engine.prompts import RECENT, PromptEmbeddings, prompt_spans
from longlive_core.engine.rollout import rollout

from .studio import CHUNKS, Stop, same

pytestmark = pytest.mark.slow

STORY = "0c a {seed=5}\n2c b {blend=2c}\n6c c {keep, seed=8}\n8c b {blend=1c, seed=9}"


def rolled(studio, take):
    """Return the film's latents, rendered without interruption and without a store."""
    spans = prompt_spans(take.plan.prompts, studio.contexts.__getitem__)
    height, width = take.origin.size[1] // 8, take.origin.size[0] // 8
    chunks = rollout(studio.model, spans, CHUNKS, (height, width), take.origin.stream, AddressedNoise(take.origin.seed))
    return [chunk.latents.cpu() for chunk in chunks]


def test_a_film_with_options_is_the_one_rolled_out(studio):
    """Forbids options that one way of rendering knows and the other does not."""
    take = studio.open(STORY)
    studio.render(take)
    assert same(studio.latents(take), rolled(studio, take))


@pytest.mark.parametrize("stop_at", [6, 13, 17, 20, 25, 34, 40, 47, 52])
def test_it_continues_wherever_it_was_stopped(studio, stop_at):
    """Forbids another noise or another mix of prompts after a stop, inside a blend, too."""
    with pytest.raises(Stop):
        studio.render(studio.open(STORY), stop_at)
    take = studio.open(STORY)
    studio.render(take)
    assert same(studio.latents(take), rolled(studio, take))


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (("{seed=5}", "{seed=6}"), 0),
        (("{seed=5}", ""), 0),
        (("{blend=2c}", "{blend=3c}"), 2),
        (("{blend=2c}", ""), 2),
        (("seed=8", "seed=7"), 6),
        (("seed=9", "seed=3"), 8),
        (("{blend=1c, seed=9}", "{seed=9}"), 8),
    ],
)
def test_an_option_changes_the_film_from_there_on(studio, change, kept):
    """Forbids reusing chunks of another seed or blend, and making the others again."""
    before = studio.open(STORY)
    studio.render(before)
    after = studio.open(STORY.replace(*change))
    assert after.reused == kept
    studio.render(after)
    one, other = studio.latents(before), studio.latents(after)
    assert same(one[:kept], other[:kept]) and not torch.equal(one[kept], other[kept])


def test_a_blend_moves_from_one_prompt_to_the_next(studio):
    """Forbids a jump, a blend that runs backwards or never arrives."""
    a, b = studio.contexts["a"], studio.contexts["b"]
    spans = prompt_spans(studio.open("0c a\n3c b {blend=3c}").plan.prompts, studio.contexts.__getitem__)
    assert [span.start for span in spans] == [0, 3, 4, 5, 6]
    parts = [((span.context - a) / (b - a)).mean().item() for span in spans]
    assert parts == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=1e-4)
    assert {span.transition for span in spans[1:]} == {"recache"}


def test_texts_are_encoded_once_and_when_they_are_needed():
    """Forbids a text encoder that moves to the device for every prompt, or for a film that is stored."""
    asked = []

    def encode(texts):
        asked.append(list(texts))
        return {text: torch.zeros(1) for text in asked[-1]}

    contexts = PromptEmbeddings(encode, ["a", "b"], known={"k": torch.ones(1)})
    assert contexts("k").item() == 1 and asked == []
    for text in ("b", "a", "b", "c"):
        contexts(text)
    assert asked == [["b", "a"], ["c"]]


def test_prompts_that_nobody_named_are_not_kept_for_ever():
    """Forbids memory that grows with every prompt typed into a film without end."""
    encoded = []

    def encode(texts):
        encoded.extend(texts)
        return {text: torch.ones(1) for text in texts}

    contexts = PromptEmbeddings(encode, ["a"])
    for number in range(3 * RECENT):
        contexts(f"typed {number}")
        contexts(f"typed {number}")
    assert len(encoded) == 3 * RECENT + 1 and len(contexts._recent) == RECENT
    contexts("a")
    contexts(f"typed {3 * RECENT - 1}")
    assert len(encoded) == 3 * RECENT + 1
    contexts("typed 0")
    assert encoded[-1] == "typed 0"
