"""Steps of the causal start, in both halves and across the border between them."""

import math
from pathlib import Path

import pytest
import torch
import yaml

from longlive_core.checkpoints import load_state_dict
from longlive_core.checkpoints.built_in import weights_folder
from longlive_core.train import checkpoint
from longlive_core.train.causal_start.causal_stage import CausalStage
from longlive_core.train.config import from_dict, load_config
from longlive_core.train.data.clip_files import ClipFolder, ClipStream, write_shard
from longlive_core.train.models import build
from longlive_core.train.parallel import Ranks
from longlive_core.train.run import run
from longlive_core.train.settings import ConfigError
from longlive_core.train.stage import NotFiniteError

from .conftest import texts, tiny

ONE_RANK = Ranks()
CAUSAL = {"autoregressive_steps": 2, "consistency_steps": 3, "levels": 8, "prompt_left_out": 0.5}
SETTINGS = {
    "stage": "causal",
    "models": {"student": "pocket"},
    "preset": "pocket",
    "size": [32, 32],
    "save_every": 2,
    "dtype": "fp32",
    "checkpointing": False,
    "student_optimiser": {"rate": 1e-3, "clip": 0.5},
    "batch": 2,
}


def write_clips(folder: Path, count: int = 5, frames: int = 6, size: int = 4, channels: int = 16) -> Path:
    folder.mkdir(exist_ok=True)
    latents = torch.randn(count, channels, frames, size, size, generator=torch.Generator().manual_seed(7))
    write_shard(folder / "clips.safetensors", latents, [f"clip {number}" for number in range(count)])
    return folder


def encode(prompts) -> torch.Tensor:
    return torch.cat([texts(sum(map(ord, prompt))) for prompt in prompts])


def settings(clips: Path, **changes) -> dict:
    return {**SETTINGS, **changes, "causal": {**CAUSAL, **changes.get("causal", {}), "clips": str(clips)}}


def stage(clips: Path, ranks: Ranks = ONE_RANK, models=None, **changes) -> CausalStage:
    config = from_dict(settings(clips, **changes))
    models = models or [tiny(seed) for seed in (1, 2, 3)]
    return CausalStage(config, *models, encode, ClipStream(ClipFolder(clips), config.seed), ranks)


@pytest.fixture
def clips(tmp_path) -> Path:
    return write_clips(tmp_path / "clips")


def weights(model) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.module.parameters()]


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# --- the two halves


def test_the_first_half_moves_the_student_alone_and_the_second_freezes_it_as_teacher(clips):
    """Forbids a teacher that learns, one that is not the autoregressive model, and a target that is not the average."""
    start = stage(clips, student_optimiser={"rate": 1e-3, "average": 0.5, "average_from": 0})
    for step in range(2):
        assert set(start.step(step)) == {"autoregressive/loss", "autoregressive/gradient_norm"}
    averaged = [part.clone() for part in start.student.optimiser.ema]
    assert not same(averaged, weights(start.student.model))
    for step in (2, 3):
        assert set(start.step(step)) == {"consistency/loss", "consistency/gradient_norm"}
        assert same(weights(start.teacher), averaged)
        assert same(weights(start.target), start.student.optimiser.ema)
    assert not same(weights(start.student.model), averaged)
    assert not same(weights(start.target), weights(start.student.model))
    assert all(p.grad is None for model in (start.teacher, start.target) for p in model.module.parameters())


def test_draws_of_a_step_are_each_chunks_and_clips_own(clips, monkeypatch):
    """Forbids one timestep for all chunks or clips, timesteps that never reach the noise, the same draw at every step,
    and a prompt that is never, or always, left out."""
    from longlive_core.train.causal_start import causal_stage

    seen, asked = [], []
    loss = causal_stage.autoregressive_loss
    monkeypatch.setattr(causal_stage, "autoregressive_loss", lambda *given: seen.append(given[3]) or loss(*given))
    start = stage(clips, causal={"autoregressive_steps": 30}, student_optimiser={"rate": 0.0})
    start.encode = lambda prompts: asked.extend(prompts) or encode(prompts)
    for step in range(30):
        start.step(step)
    timesteps = torch.stack(seen)  # [steps, B, N]
    assert timesteps.shape == (30, 2, 2) and timesteps.unique().numel() == 120
    assert timesteps.max() > 990 and timesteps.min() < 500 and timesteps.mean() > 600  # shift 5
    assert 15 <= asked.count("") <= 45 and set(asked) == {"", *(f"clip {number}" for number in range(5))}


def test_the_first_half_learns(clips):
    """Forbids gradients of another sign, and an optimiser that does not belong to the model."""
    start = stage(clips, causal={"autoregressive_steps": 60}, student_optimiser={"rate": 3e-3})
    losses = [start.step(step)["autoregressive/loss"] for step in range(60)]
    assert sum(losses[-10:]) < 0.93 * sum(losses[:10])


def test_a_half_may_be_left_out(clips):
    """Forbids a student that is causal and trained again, and a second half that was not configured."""
    second = stage(clips, causal={"autoregressive_steps": 0})
    before = weights(second.student.model)
    assert "consistency/loss" in second.step(0) and same(weights(second.teacher), before)
    assert from_dict(settings(clips, causal={"consistency_steps": 0, "levels": 7})).steps == 2


# --- resuming


@pytest.mark.parametrize("done", [1, 2, 3, 4])
def test_resume_is_no_interruption(clips, tmp_path, done):
    """Forbids a continuation that learns anything else: in the first half, at the border, right after it, later."""
    whole, first, second = stage(clips), stage(clips), stage(clips)
    straight = [whole.step(step) for step in range(5)]
    for step in range(done):
        first.step(step)
    checkpoint.save(first, tmp_path / "run", done)
    assert checkpoint.resume(second, tmp_path / "run") == done
    assert [second.step(step) for step in range(done, 5)] == straight[done:]
    for name in ("teacher", "target"):
        assert same(weights(getattr(whole, name)), weights(getattr(second, name))), name
    assert same(whole.student.optimiser.master, second.student.optimiser.master)
    assert same(whole.student.optimiser.ema, second.student.optimiser.ema)


def test_resuming_with_something_else_is_refused(clips, tmp_path):
    """Forbids a continuation with other clips or settings, and refuses none that only runs longer."""
    first = stage(clips)
    first.step(0)
    checkpoint.save(first, tmp_path / "run", 1)
    with pytest.raises(ConfigError, match="causal.levels was 8 and is 4"):
        checkpoint.resume(stage(clips, causal={"levels": 4}), tmp_path / "run")
    assert checkpoint.resume(stage(clips, causal={"consistency_steps": 30}), tmp_path / "run") == 1
    write_clips(clips, count=6)
    with pytest.raises(ValueError, match="are not those that this run began with"):
        checkpoint.resume(stage(clips), tmp_path / "run")


def test_nan_stops_before_any_weight_is_moved(clips):
    """Forbids a run that continues with NaN, in either half."""
    for step, broken, words in (
        (1, "student", "step 1: the autoregressive loss is nan.*check the clips"),
        (3, "teacher", "step 3: the consistency loss is nan"),
    ):
        start = stage(clips)
        for done in range(step):
            start.step(done)
        model = start.student.model if broken == "student" else start.teacher
        with torch.no_grad():
            model.module.head.head.weight.fill_(math.nan)
        before = [part.clone() for part in start.student.optimiser.master]
        with pytest.raises(NotFiniteError, match=words):
            start.step(step)
        assert same(before, start.student.optimiser.master)


@pytest.mark.slow
def test_checkpoints_of_a_run_load_as_models(clips, tmp_path):
    """Forbids a checkpoint that must be converted, one that is not the average, and another layout than a
    distillation's."""
    config = from_dict(settings(clips, batch=1, sample_every=5, sample_seconds=0.5))
    last = run(config, tmp_path / "run", None, ONE_RANK)
    assert [path.name for path in checkpoint.checkpoints(tmp_path / "run")] == [
        "step-000002",
        "step-000004",
        "step-000005",
    ]
    made, shipped = (
        load_state_dict(path) for path in (last / "student.safetensors", weights_folder() / "pocket_dit.safetensors")
    )
    assert made.keys() == shipped.keys() and not same(made.values(), shipped.values())
    state = torch.load(last / "state-0.pt", weights_only=True)["student"]
    names = [name.removeprefix("student.") for name in state["names"]]
    assert same([made[name] for name in names], [part.bfloat16() for part in state["ema"]])
    assert (tmp_path / "run" / "samples" / "step-000005.mp4").is_file()
    assert run(config, tmp_path / "run", None, ONE_RANK) == last  # nothing left to do


# --- errors


@pytest.mark.parametrize(
    "made, words",
    [
        ({"frames": 3}, "at least two .6 frames."),
        ({"frames": 7}, "whole chunks of 3 latent frames"),
        ({"size": 6}, "6x6 with 16 channels, which is 48x48 pixels, but `size` is 32x32"),
        ({"channels": 4}, "the student takes 16 channels"),
    ],
)
def test_clips_that_do_not_fit_are_refused(tmp_path, made, words):
    """Forbids a training on clips of other shapes, or a fault that shows in the depths of a forward."""
    folder = write_clips(tmp_path / "clips", **made)
    with pytest.raises(ValueError, match=words):
        build(from_dict(settings(folder)), None, ONE_RANK)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"causal": None}, "missing setting causal.clips: a folder of clips"),
        ({"causal": {}}, "missing setting causal.clips"),
        ({"causal": {"clips": "c", "level": 3}}, "unknown setting causal.level: allowed are autoregressive_steps"),
        ({"causal": {"clips": "c", "levels": 7}}, "denoising step 750 is none of 7 even steps"),
        ({"causal": {"clips": "c", "levels": 0}}, "0 levels of the teacher's sampler"),
        ({"causal": {"clips": "c", "autoregressive_steps": -1}}, "causal.autoregressive_steps -1"),
        ({"causal": {"clips": "c", "autoregressive_steps": 0, "consistency_steps": 0}}, "one must be above 0"),
        ({"causal": {"clips": "c", "target_average": 1}}, "causal.target_average 1: allowed is from 0"),
        ({"causal": {"clips": "c", "prompt_left_out": 1.5}}, "causal.prompt_left_out 1.5"),
        ({"causal": {"clips": "c"}, "steps": 7}, "steps 7: the causal start runs 5000"),
        ({"causal": {"clips": "c"}, "lora": {"rank": 4}}, "remove `lora`"),
        ({"causal": {"clips": "c"}, "stream": {"context_noise": 5}}, "context_noise 5: .*leave it at 0"),
        ({"causal": {"clips": "c"}, "stream": {"window": 9}}, "window 9 and sink 3 .*set window 12 and sink 3"),
        ({"causal": {"clips": "c"}, "stage": "distil"}, "add `stage: causal`"),
        ({"causal": {"clips": "c"}, "stage": "cause"}, "stage 'cause': allowed are distil and causal"),
        ({"stage": "distil"}, "missing setting models.teacher, models.critic, prompts"),
        ({"causal": {"clips": "nowhere"}}, "there is no folder of clips 'nowhere'"),
    ],
)
def test_errors_in_a_configuration_are_named(change, words):
    """Forbids an error that shows as a traceback from the depths, or not at all."""
    with pytest.raises(ValueError, match=words):
        build(from_dict({**SETTINGS, **change}), None, ONE_RANK)


def test_configuration_survives_its_file(clips, tmp_path):
    """Forbids a stored configuration that reads as another one, or that cannot be read for its number of steps."""
    config = from_dict(settings(clips))
    assert config.steps == 5
    checkpoint.write_config(config, tmp_path / "config.yaml")
    assert from_dict(yaml.safe_load((tmp_path / "config.yaml").read_text())) == config


@pytest.mark.parametrize(
    "path", sorted((Path(checkpoint.__file__).parent / "configs").glob("*.yaml")), ids=lambda path: path.stem
)
def test_shipped_configurations_are_whole(path):
    """Forbids a configuration of the package that no longer reads."""
    assert load_config(path).steps > 0
