"""CLIP and DINO: the formulas with hand-written encoders, loading with tiny random models."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, CLIPModel

from longlive_core.eval import FilmSegment
from longlive_core.eval.clip_dino import BATCH, ClipEncoder, DinoEncoder, consistency, evaluate_features
from tests.eval.models import LONGEST, save_clip, save_dino


class Plane:
    """An encoder whose feature is the direction in degrees that a frame's first number, or a prompt, says."""

    def __init__(self):
        self.seen = []

    def images(self, frames):
        self.seen += [int(frame[0, 0, 0]) for frame in frames]
        return self._directions(int(frame[0, 0, 0]) for frame in frames)

    def texts(self, texts):
        return self._directions(int(text) for text in texts)

    def cut(self, text):
        return len(text) > 2

    def _directions(self, degrees):
        return np.array([(math.cos(math.radians(d)), math.sin(math.radians(d))) for d in degrees], np.float32)


def _film(degrees):
    return np.array(degrees, np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    return save_dino(tmp_path_factory.mktemp("dino"))


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (BATCH + 5, 40, 64, 3), dtype=np.uint8)


def test_the_clip_score_is_a_mean_cosine_with_the_segments_own_prompt():
    """Forbids scoring frames with another segment's prompt, and a score without the paper's factor of 100."""
    frames, segments = _film([0, 60, 90, 90]), [FilmSegment(0, "0"), FilmSegment(2, "150")]
    score = evaluate_features(frames, segments, clip=Plane(), stride=1)
    assert [segment.clip_score for segment in score.segments] == pytest.approx([75, 50])
    assert score.clip_score == pytest.approx(62.5)
    assert [segment.prompt_cut for segment in score.segments] == [False, True]
    assert score.subject_consistency is None  # no DINO was given


def test_consistency_is_vbenchs():
    """Forbids a consistency without the first frame, with negative cosines, or one that counts the first frame."""
    features = Plane()._directions([0, 60, 180])
    assert consistency(features) == pytest.approx(((0.5 + 0.5) / 2 + (0 + 0) / 2) / 2)
    assert consistency(features[:1]) is None


def test_segments_are_compared_inside_and_the_film_as_a_whole():
    """Forbids calling a subject inconsistent that a new prompt has replaced, and hiding it from the whole film."""
    frames, segments = _film([0, 0, 90, 90]), [FilmSegment(0, "0"), FilmSegment(2, "90")]
    score = evaluate_features(frames, segments, dino=Plane(), stride=1)
    assert score.subject_consistency == pytest.approx(1)
    assert score.film_subject_consistency == pytest.approx((1 + 0 + 0.5) / 3)


def test_a_jump_at_the_switch_is_set_against_the_usual_change():
    """Forbids a continuity that depends on how much a film moves anyway."""
    directions = np.cumsum([0] + [2] * 60)
    directions[30:] += 60
    (jump,) = evaluate_features(
        _film(directions), [FilmSegment(0, "0"), FilmSegment(30, "0")], dino=Plane(), stride=1
    ).dino_switches
    assert jump.largest == pytest.approx(1 - math.cos(math.radians(62)), abs=1e-5)
    assert jump.ratio > 100


def test_only_every_nth_frame_is_looked_at():
    """Forbids the cost of all frames of a long film."""
    plane = Plane()
    evaluate_features(_film(range(40)), [FilmSegment(0, "0")], dino=plane, stride=8)
    assert plane.seen == [0, 8, 16, 24, 32]


@pytest.mark.parametrize(("stride", "words"), [(0, "stride of CLIP and DINO is 0"), (13, "1 to 12"), (9, "only 1 fr")])
def test_settings_that_see_nothing_are_refused(stride, words):
    """Forbids numbers from one frame, and a stride that looks over switches."""
    with pytest.raises(ValueError, match=words):
        evaluate_features(_film([0, 1, 2]), [FilmSegment(0, "0")], dino=Plane(), stride=stride)
    with pytest.raises(ValueError, match="pass a CLIP model"):
        evaluate_features(_film([0, 1, 2]), [FilmSegment(0, "0")])


@torch.no_grad()
def test_clip_features_are_those_of_transformers(clip, frames):
    """Forbids a model fed in another way than it was trained: pixels, padding, projection."""
    ours, model = ClipEncoder(clip), CLIPModel.from_pretrained(clip).eval()
    pixels = ours._processor(images=list(frames), return_tensors="pt")["pixel_values"]
    texts = ["red ball", "blue star ball"]
    tokens = ours._tokenizer(texts, padding=True, return_tensors="pt")
    out = model(pixel_values=pixels, input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
    assert np.allclose(ours.images(frames), out.image_embeds, atol=1e-5)
    assert np.allclose(ours.texts(texts), out.text_embeds, atol=1e-5)
    assert np.allclose(ours.texts(texts[:1]), out.text_embeds[:1], atol=1e-5)


@torch.no_grad()
def test_dino_features_are_the_class_tokens(dino, frames):
    """Forbids another feature than VBench's."""
    ours, model = DinoEncoder(dino), AutoModel.from_pretrained(dino).eval()
    token = model(ours._processor(images=list(frames), return_tensors="pt")["pixel_values"]).last_hidden_state[:, 0]
    assert np.allclose(ours.images(frames), token / token.norm(dim=-1, keepdim=True), atol=1e-5)


def test_films_longer_than_a_batch_are_read_in_order(clip, dino, frames):
    """Forbids frames lost or mixed where batches meet."""
    models = {"clip": ClipEncoder(clip), "dino": DinoEncoder(dino)}
    score = evaluate_features(frames, [FilmSegment(0, "red ball")], **models, stride=1)
    assert score.segments[0].frames == len(frames)
    one_by_one = np.concatenate([models["dino"].images(frames[n : n + 1]) for n in range(len(frames))])
    assert score.subject_consistency == pytest.approx(consistency(one_by_one), abs=1e-5)
    cosines = (
        np.concatenate([models["clip"].images(frames[n : n + 1]) for n in range(len(frames))])
        @ models["clip"].texts(["red ball"])[0]
    )
    assert score.clip_score == pytest.approx(100 * cosines.mean(), abs=1e-3)


def test_a_prompt_longer_than_clip_reads_is_said(clip):
    """Forbids a silent score of half a prompt; LongLive's prompts are longer than CLIP's 77 tokens."""
    model = ClipEncoder(clip)
    assert model.cut("red " * (LONGEST - 1)) and not model.cut("red " * (LONGEST - 2))
    assert model.texts(["red " * 40]).shape == (1, 16)


def test_models_that_are_none_are_refused(tmp_path, clip, dino):
    """Forbids tracebacks from the depths of transformers, and another model's features."""
    for loader, name, words in (
        (ClipEncoder, str(tmp_path), "is not a CLIP model that can be loaded"),
        (DinoEncoder, str(tmp_path / "none"), "is not a DINO model that can be loaded"),
        (ClipEncoder, dino, "kind 'dinov2', not a CLIP model"),
        (DinoEncoder, clip, "kind 'clip', not a DINO model"),
    ):
        with pytest.raises(ValueError, match=words):
            loader(name)


def test_a_model_with_weights_missing_is_refused(tmp_path):
    """Forbids random numbers in the place of a broken download."""
    name = save_dino(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    gone = next(key for key in weights if "attention" in key)
    save_file(
        {key: value for key, value in weights.items() if key != gone},
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(ValueError, match="lacks 1 weights of a DINO model"):
        DinoEncoder(name)


def test_a_file_that_is_cut_off_is_reported(tmp_path):
    """Forbids a traceback for a download that broke off."""
    name = save_dino(tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is not a DINO model that can be loaded"):
        DinoEncoder(name)


def test_a_folder_without_the_processor_is_refused(tmp_path):
    """Forbids pixels normalised by another model's numbers."""
    name = save_dino(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match="is not a DINO model that can be loaded"):
        DinoEncoder(name)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "dinov2"
