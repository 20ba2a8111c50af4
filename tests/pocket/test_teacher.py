"""The teacher of the pocket model's distillation: which clips it is shown, and under which prompt."""

import numpy as np
import pytest
import torch

from longlive_core.checkpoints import load_state_dict
from longlive_core.checkpoints.built_in import DIT_FILE, is_pocket_file, weights_folder
from longlive_core.config import ModelConfig
from longlive_core.model import CausalWan, WanModel
from longlive_core.pocket.film_pool import FILM_CHUNKS, PATTERNS, PoolFilm
from longlive_core.pocket.stage_teacher import CLIP_CHUNKS, TeacherSettings, clip_starts, flow_loss, teacher_clip
from longlive_core.pocket.train import export_transformer
from longlive_core.pocket.training import Draws
from longlive_core.toybox.world import COLOURS, Attributes

LOOKS = [Attributes(colour, "ball", "rest", "sea") for colour in list(COLOURS)[:3]]


def _film(switches) -> PoolFilm:
    """A film whose chunk i holds i everywhere."""
    numbers = torch.arange(FILM_CHUNKS).repeat_interleave(3).half()
    script = list(zip((0, *switches), LOOKS, strict=False))
    return PoolFilm(numbers[None, :, None, None].expand(16, -1, 4, 4), torch.ones(3 * FILM_CHUNKS, 4, 4).half(), script)


@pytest.mark.parametrize("switches", sorted(set(PATTERNS)))
def test_a_clip_shows_what_its_prompt_asks_but_for_its_first_chunk(switches):
    """Forbids a teacher that learns to change a picture late in a clip, under a prompt that never comes."""
    film = _film(switches)
    assert clip_starts(film) or switches == (5, 10)  # whose segments are all too short
    for start in clip_starts(film):
        clip = teacher_clip(film, start, lambda before: 100 + before[:, :, -1:])
        assert clip.latents[0, 3::3, 0, 0].int().tolist() == list(range(start + 1, start + CLIP_CHUNKS))
        assert clip.latents[0, :3, 0, 0].int().tolist() == [start + (100 if start else 0), start, start]
        requested = [film.requested(chunk) for chunk in range(start, start + CLIP_CHUNKS)]
        assert clip.after == requested[-1] and requested[1:] == [clip.after] * (CLIP_CHUNKS - 1)
    left = set(range(FILM_CHUNKS - CLIP_CHUNKS + 1)) - set(clip_starts(film))
    assert all(
        any(
            film.requested(chunk) != film.requested(start + CLIP_CHUNKS - 1)
            for chunk in range(start + 1, start + CLIP_CHUNKS)
        )
        for start in left
    )


def _no_image(before: torch.Tensor) -> torch.Tensor:
    return before[:, :, -1:]


CONFIG = ModelConfig(dim=64, ffn_dim=64, num_heads=1, num_layers=1, text_dim=8, freq_dim=32)


@pytest.fixture
def wan() -> CausalWan:
    torch.manual_seed(0)
    return CausalWan(WanModel(CONFIG), CONFIG)


def _loss(wan, clips, seen: list[str], no_prompt: float = 0.0):
    """The loss with a text encoder that records what it reads."""

    def prompts(texts, *_):
        seen.extend(texts)
        return torch.zeros(len(texts), 4, 8)

    return flow_loss(wan, prompts, clips, TeacherSettings(no_prompt=no_prompt), Draws(0))


def test_prompts_are_left_out_as_often_as_requested(wan):
    """Forbids guidance whose unconditional half was never trained, and a teacher that never reads."""
    clips = [teacher_clip(_film(()), 0, _no_image)] * 4
    for share in (0.0, 1.0):
        seen: list[str] = []
        _loss(wan, clips, seen, share)
        assert len(seen) == 4 and all((text == "") == (share == 1.0) for text in seen)


def test_the_loss_is_the_errors_and_teaches(wan):
    """Forbids a loss without a gradient, and errors that are not those of the clean clip."""
    loss, errors = _loss(wan, [teacher_clip(_film(()), start, _no_image) for start in (0, 3)], [])
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in wan.module.parameters())
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
