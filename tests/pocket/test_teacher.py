"""The teacher of the pocket model's distillation: which clips it is shown, and under which prompt."""

import numpy as np
import pytest
import torch

from longlive_core.checkpoints import load_state_dict
from longlive_core.checkpoints.built_in import DIT_FILE, is_pocket_file, weights_folder
from longlive_core.config import ModelConfig
from longlive_core.model import WanModel
from longlive_core.pocket import teacher
from longlive_core.pocket.long_clip_pool import LONG, PATTERNS, LongClip
from longlive_core.pocket.teacher import CLIP_CHUNKS, Flow, TeacherRecipe, cut, places
from longlive_core.pocket.train import export_transformer
from longlive_core.toybox.world import COLOURS, Attributes

LOOKS = [Attributes(colour, "ball", "rest", "sea") for colour in list(COLOURS)[:3]]


def _film(switches) -> LongClip:
    """A film whose chunk i holds i everywhere."""
    numbers = torch.arange(LONG).repeat_interleave(3).half()
    script = list(zip((0, *switches), LOOKS, strict=False))
    return LongClip(numbers[None, :, None, None].expand(16, -1, 4, 4), torch.ones(3 * LONG, 4, 4).half(), script)


@pytest.mark.parametrize("switches", sorted(set(PATTERNS)))
def test_a_clip_shows_what_its_prompt_asks_but_for_its_first_chunk(switches):
    """Forbids a teacher that learns to change a picture late in a clip, under a prompt that never comes."""
    film = _film(switches)
    assert places(film) or switches == (5, 10)  # whose segments are all too short
    for start in places(film):
        clip = cut(film, start, lambda before: 100 + before[:, :, -1:])
        assert clip.latents[0, 3::3, 0, 0].int().tolist() == list(range(start + 1, start + CLIP_CHUNKS))
        assert clip.latents[0, :3, 0, 0].int().tolist() == [start + (100 if start else 0), start, start]
        asked = [film.asked(chunk) for chunk in range(start, start + CLIP_CHUNKS)]
        assert clip.after == asked[-1] and asked[1:] == [clip.after] * (CLIP_CHUNKS - 1)
    left = set(range(LONG - CLIP_CHUNKS + 1)) - set(places(film))
    assert all(
        any(film.asked(chunk) != film.asked(start + CLIP_CHUNKS - 1) for chunk in range(start + 1, start + CLIP_CHUNKS))
        for start in left
    )


def _no_image(before: torch.Tensor) -> torch.Tensor:
    return before[:, :, -1:]


def _flow(monkeypatch, seen: list, no_prompt: float) -> Flow:
    """The loss with a small model and an encoder that writes down what it reads."""

    def tokens_of(_, texts, *__):
        seen.extend(texts)
        return texts, None

    monkeypatch.setattr(teacher, "tokens_of", tokens_of)
    monkeypatch.setattr(teacher, "encode_tokens", lambda _, texts, __: torch.zeros(len(texts), 4, 8))
    monkeypatch.setattr(teacher, "to_wan_width", lambda context: context)
    recipe = TeacherRecipe(no_prompt=no_prompt)
    small = ModelConfig(dim=64, ffn_dim=64, num_heads=1, num_layers=1, text_dim=8, freq_dim=32)
    monkeypatch.setattr(TeacherRecipe, "model_config", lambda _: small)
    torch.manual_seed(0)
    return Flow(WanModel(small), None, recipe, seed=0)


def test_prompts_are_left_out_as_often_as_asked(monkeypatch):
    """Forbids guidance whose unconditional half was never trained, and a teacher that never reads."""
    clips = [cut(_film(()), 0, _no_image)] * 4
    for share in (0.0, 1.0):
        seen: list[str] = []
        _flow(monkeypatch, seen, share).step(clips)
        assert len(seen) == 4 and all((text == "") == (share == 1.0) for text in seen)


def test_the_loss_is_the_errors_and_teaches(monkeypatch):
    """Forbids a loss without a gradient, and errors that are not those of the clean clip."""
    flow = _flow(monkeypatch, [], 0.0)
    loss, errors = flow.step([cut(_film(()), place, _no_image) for place in (0, 3)])
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in flow.wan.module.parameters())
    assert errors and all(np.isfinite(value) and value >= 0 for value in errors.values())
    assert set(errors) <= {"0", "600", "900"}


def test_what_a_stage_trained_is_a_file_that_others_take(tmp_path):
    """Forbids a teacher that no distillation can load, and weights of the text encoder in it."""
    weights = load_state_dict(weights_folder() / DIT_FILE)
    named = {f"dit.{name}": value.float() for name, value in weights.items()} | {"text.shared.weight": torch.zeros(2)}
    torch.save({"weights": named, "step": 1}, tmp_path / "teacher.pt")
    made = load_state_dict(export_transformer(tmp_path, "teacher"))
    assert made.keys() == weights.keys() and all(torch.equal(made[name], weights[name]) for name in weights)
    assert is_pocket_file(tmp_path / "teacher.safetensors")
