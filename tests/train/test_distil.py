"""Steps of a distillation, checkpoints, and resuming."""

import math
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import save_file

from longlive_core.checkpoints import load_lora, load_state_dict, merge_lora, model_kinds
from longlive_core.checkpoints.built_in import weights_folder
from longlive_core.config import ModelConfig
from longlive_core.model import WanModel
from longlive_core.pocket.clip_pool import pixels_of
from longlive_core.quant import quantise_state_dict
from longlive_core.toybox import world
from longlive_core.train import checkpoint
from longlive_core.train.config import from_dict
from longlive_core.train.distillation.distil_stage import DistilStage
from longlive_core.train.distillation.first_latent import image_latents
from longlive_core.train.models import build, vae_of
from longlive_core.train.optimiser import MasterAdam
from longlive_core.train.parallel import Ranks
from longlive_core.train.run import run
from longlive_core.train.settings import ConfigError
from longlive_core.train.stage import NotFiniteError, Trainee
from longlive_core.vae import WanVAE
from longlive_core.vae import encode as encode_pixels

from .conftest import texts, tiny

SETTINGS = {
    "models": {"student": "pocket", "teacher": "pocket", "critic": "pocket"},
    "prompts": "toybox",
    "preset": "pocket",
    "size": [32, 32],
    "stream": {"window": 9},
    "lengths": {"clip": 6, "new": 3, "longest": 12},
    "critic_updates": 2,
    "steps": 6,
    "save_every": 3,
    "dtype": "fp32",
    "checkpointing": False,
    "student_optimiser": {"rate": 1e-3},
    "critic_optimiser": {"rate": 1e-3},
}


def draw(number: int, count: int, rank: int = 0, ranks: int = 1):
    """Prompts are their numbers."""
    first = number * count * ranks + rank * count
    return [SimpleNamespace(prompt=f"{n}", follow_up=f"{n} then") for n in range(first, first + count)]


def encode(prompts) -> torch.Tensor:
    return torch.cat([texts(sum(map(ord, prompt))) for prompt in prompts])


def distiller(**changes) -> DistilStage:
    config = from_dict({**SETTINGS, **changes})
    student, critic, teacher = tiny(1), tiny(2), tiny(3)
    teacher.module.requires_grad_(False)
    parts = [
        Trainee(m, MasterAdam({n: m.module}, betas=(0.0, 0.999), clip=10.0))
        for n, m in (("student", student), ("critic", critic))
    ]
    return DistilStage(config, *parts, teacher, encode, draw, Ranks())


def weights(trainee: Trainee) -> list[torch.Tensor]:
    return [p.detach().clone() for p in trainee.model.module.parameters()]


def moved(before, after) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_student_moves_once_for_so_many_critic_steps():
    """Forbids two time scales that are one."""
    run_, student_moved, critic_moved = distiller(), [], []
    for step in range(5):
        before = weights(run_.student), weights(run_.critic)
        scalars = run_.step(step)
        student_moved.append(moved(before[0], weights(run_.student)))
        critic_moved.append(moved(before[1], weights(run_.critic)))
        assert ("student/dmd" in scalars) == student_moved[-1]
    assert student_moved == [True, False, True, False, True] and all(critic_moved)


def test_the_scores_use_timesteps_of_their_own_shift():
    """Forbids a score shift that changes nothing, and one that changes how the student films."""
    times: dict[float, list[float]] = {1.0: [], 5.0: []}
    for shift, seen in times.items():
        run_ = distiller(score_shift=shift)
        assert run_.shot.stream.shift == 5.0

        class Scores:
            def direction(self, clean, prompts, timesteps, noise, _ask=run_.scores.direction, _seen=seen):
                _seen.extend(timesteps.tolist())
                return _ask(clean, prompts, timesteps, noise)

            def critic_loss(self, clean, prompts, timesteps, *rest, _ask=run_.scores.critic_loss, _seen=seen):
                _seen.extend(timesteps.tolist())
                return _ask(clean, prompts, timesteps, *rest)

        run_.scores = Scores()
        for step in range(2):
            run_.step(step)
    assert len(times[1.0]) == len(times[5.0]) == 3
    for even, shifted in zip(times[1.0], times[5.0], strict=True):
        assert shifted == pytest.approx(min(980, 5 * even / (1 + 4 * even / 1000)), rel=1e-4) and 20 < even < shifted


def test_teacher_stays_as_it_is():
    """Forbids a teacher that learns."""
    run_ = distiller()
    before = [p.detach().clone() for p in run_.scores.real.module.parameters()]
    for step in range(3):
        run_.step(step)
    assert not moved(before, list(run_.scores.real.module.parameters()))
    assert all(p.grad is None for p in run_.scores.real.module.parameters())


def test_resume_is_no_interruption(tmp_path):
    """Forbids a continuation, from the middle of a film, that learns anything else than the run itself would have."""
    whole, first, second = distiller(), distiller(), distiller()
    straight = [whole.step(step) for step in range(5)]
    for step in range(3):
        first.step(step)
    checkpoint.save(first, tmp_path, 3)
    assert checkpoint.resume(second, tmp_path) == 3
    assert [second.step(step) for step in (3, 4)] == straight[3:]
    for one, other in ((whole.student, second.student), (whole.critic, second.critic)):
        assert not moved(weights(one), weights(other))


def test_resume_with_another_configuration_is_refused(tmp_path):
    """Forbids a continuation that is another training, and one that is wrongly reported to be."""
    first = distiller()
    first.step(0)
    checkpoint.save(first, tmp_path, 1)
    with pytest.raises(ConfigError, match=r"guidance was 3.0 and is 5.0"):
        checkpoint.resume(distiller(guidance=5.0), tmp_path)
    assert checkpoint.resume(distiller(steps=9, keep=7), tmp_path) == 1
    lower = {"student_optimiser": {"rate": 1e-5}, "critic_optimiser": {"rate": 1e-5}}  # what one does after a NaN
    assert checkpoint.resume(distiller(**lower), tmp_path) == 1


def test_a_run_from_before_a_setting_existed_resumes(tmp_path):
    """Forbids a new setting, at its default, that ends every run which was begun without it."""
    first = distiller()
    first.step(0)
    file = checkpoint.save(first, tmp_path, 1) / "config.yaml"
    stored = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({name: value for name, value in stored.items() if name not in ("stage", "causal")}))
    assert checkpoint.resume(distiller(), tmp_path) == 1


def test_resume_with_another_number_of_ranks_is_refused(tmp_path):
    """Forbids ranks that resume without their films."""
    first = distiller()
    first.step(0)
    made = checkpoint.save(first, tmp_path, 1)
    (made / "state-1.pt").write_bytes((made / "state-0.pt").read_bytes())
    with pytest.raises(ConfigError, match="written by 2 ranks and cannot be resumed with 1"):
        checkpoint.resume(distiller(), tmp_path)


def test_nan_stops_before_any_weight_is_moved():
    """Forbids a run that continues with NaN, and one that saves it."""
    run_ = distiller()
    run_.step(0)
    before = weights(run_.student), weights(run_.critic)
    with torch.no_grad():
        next(run_.scores.real.module.parameters()).fill_(math.nan)
    with pytest.raises(NotFiniteError, match="step 2: the student's loss is nan"):
        run_.step(2)
    assert not moved(before[0], weights(run_.student)) and not moved(before[1], weights(run_.critic))


def test_old_checkpoints_go_and_torn_ones_do_not_count(tmp_path):
    """Forbids a disk that fills up, and resuming from half a checkpoint."""
    run_ = distiller(keep=2)
    for step in range(3):
        run_.step(step)
        checkpoint.save(run_, tmp_path, step + 1)
    (tmp_path / ".step-000009.part").mkdir()
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["step-000002", "step-000003"]


@pytest.mark.slow
def test_checkpoints_of_a_run_load_as_models(tmp_path):
    """Forbids a checkpoint that must be converted before it can be used, and a run that cannot be resumed."""
    config = from_dict(SETTINGS)
    last = run(config, tmp_path, draw, Ranks())
    assert last.name == "step-000006"
    trained, shipped = (
        load_state_dict(path) for path in (last / "student.safetensors", weights_folder() / "pocket_dit.safetensors")
    )
    assert trained.keys() == shipped.keys()
    assert any(not torch.equal(trained[name], shipped[name]) for name in shipped)
    assert run(config, tmp_path, draw, Ranks()) == last  # nothing left to do


@pytest.mark.slow
def test_lora_run_writes_a_lora(tmp_path):
    """Forbids full weights from a low-rank run, and a LoRA that is not what was trained."""
    config = from_dict({**SETTINGS, "steps": 2, "save_every": 2, "lora": {"rank": 4, "alpha": 8}})
    distil = build(config, draw, Ranks())
    trained = {name for name, p in distil.student.model.module.named_parameters() if p.requires_grad}
    assert trained and all(".lora_" in name and name.startswith("blocks.") for name in trained)
    for step in range(2):
        distil.step(step)
    lora = load_lora(checkpoint.save(distil, tmp_path, 2) / "student_lora.safetensors")
    assert {part.rank for part in lora.values()} == {4} and {part.alpha for part in lora.values()} == {8.0}
    layer = distil.student.model.module.blocks[0].self_attn.q
    x = torch.randn(3, layer.in_features)
    merged = merge_lora(load_state_dict(weights_folder() / "pocket_dit.safetensors"), lora)
    wanted = layer.base_layer.weight.detach() + lora["blocks.0.self_attn.q"].delta()
    assert wanted.ne(layer.base_layer.weight).any()
    torch.testing.assert_close(layer(x), x @ wanted.T + layer.base_layer.bias, rtol=2e-2, atol=1e-3)
    torch.testing.assert_close(merged["blocks.0.self_attn.q.weight"].float(), wanted, rtol=2e-2, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("updates, clips", [(2, {0}), (3, {0, 1, 2})])
def test_clips_that_the_student_never_learns_from_are_logged(updates, clips, caplog, monkeypatch):
    """Forbids a student that silently learns from beginnings alone, because films and rounds are as long."""
    distil = build(from_dict({**SETTINGS, "critic_updates": updates}), draw, Ranks())
    assert ("the student learns only from the clips 1 of each film's 3" in caplog.text) == (clips == {0})
    assert distil.config.student_clips == clips
    seen, inner = set(), distil._next_clip

    def next_clip(step, purpose):
        found = inner(step, purpose)
        if purpose == "student":
            seen.add(distil.film.clips - 1)
        return found

    monkeypatch.setattr(distil, "_next_clip", next_clip)
    for step in range(3 * updates):
        distil.step(step)
    assert seen == clips


def test_a_rank_alone_scales_nothing():
    """Forbids a LoRA of rank 8 at 32 times its strength, because another rank's alpha stayed."""
    assert from_dict({**SETTINGS, "lora": {"rank": 8}}).lora.alpha == 8
    assert from_dict({**SETTINGS, "lora": {"rank": 8, "alpha": 16}}).lora.alpha == 16


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"models": {"student": "nowhere.pt", "teacher": "pocket", "critic": "pocket"}},
            "models.student: .*nowhere.pt",
        ),
        ({"models": {"student": "pocket", "teacher": "pocket"}}, "missing setting models.critic"),
        ({"stepz": 3}, "unknown setting stepz: allowed are"),
        ({"lengths": {"clipp": 3}}, "unknown setting lengths.clipp"),
        ({"lengths": {"clip": 7, "new": 3}}, "multiples of the chunk, 3"),
        ({"size": [100, 32]}, "size .100, 32.: it must be width and height, multiples of 16"),
        ({"size": [32]}, "size .32.: it must be width and height"),
        ({"size": [0, 32]}, "size .0, 32.: it must be width and height"),
        ({"student_optimiser": {"clip": 0}}, "clip 0.0 of an optimiser: allowed is above 0"),
        ({"student_optimiser": {"average": 1}}, "average 1.0 of an optimiser: allowed is from 0"),
        ({"critic_optimiser": {"rate": "nan"}}, "rate nan of an optimiser: allowed is 0 or more"),
        ({"critic_optimiser": {"betas": 0.9}}, "critic_optimiser.betas 0.9: it must be a list of numbers"),
        ({"size": 32}, "size 32: it must be a list of numbers"),
        ({"critic_optimiser": {"betas": [0.9]}}, "betas .* of an optimiser: allowed is two"),
        ({"lora": {"rank": 4, "alpha": 0}}, "LoRA alpha 0.0"),
        ({"preset": "longlive"}, "preset 'longlive': allowed are"),
        ({"first_latent": "last"}, "first_latent 'last': allowed are image and film"),
        ({"lora": {"rank": 0}}, "LoRA rank 0"),
        ({"student_optimiser": {"rate": "fast"}}, "student_optimiser.rate 'fast': it must be a number"),
        ({"steps": 1.5}, "steps 1.5: it must be a whole number"),
        ({"switches": "no"}, "switches 'no': it must be true or false"),
    ],
)
def test_errors_in_a_configuration_are_named(change, message):
    """Forbids an error that shows as a traceback from the depths, or not at all."""
    with pytest.raises(ValueError, match=message):
        build(from_dict({**SETTINGS, **change}), draw, Ranks())


def wan_file(path, text_dim: int = 4096) -> str:
    """A Wan model that is not the pocket one, of width 128."""
    shape = ModelConfig(dim=128, ffn_dim=64, num_heads=1, num_layers=1, text_dim=text_dim)
    save_file(WanModel(shape).state_dict(), str(path))
    return str(path)


def with_models(**roles) -> dict:
    return from_dict({**SETTINGS, "models": {**SETTINGS["models"], **roles}})


def test_teacher_of_another_kind_is_refused(tmp_path):
    """Forbids a teacher whose latents are not the student's."""
    with pytest.raises(ConfigError, match="text_dim is 64, the student's is 4096"):
        build(with_models(teacher=wan_file(tmp_path / "other.safetensors", 64)), draw, Ranks())


def test_a_teacher_and_a_critic_may_be_14b(tmp_path, monkeypatch):
    """Forbids the one teacher that the paper's recipe has, and a student that no rollout would load."""
    monkeypatch.setattr(model_kinds, "WAN_14B_WIDTH", 128)
    large = wan_file(tmp_path / "large.safetensors")
    made = build(with_models(teacher=large, critic=large), draw, Ranks())
    assert made.scores.real.config.dim == made.scores.fake.config.dim == 128 != made.student.model.config.dim
    with pytest.raises(ConfigError, match="models.student: .*is Wan 14B"):
        build(with_models(student=large, text_encoder="pocket", vae="pocket"), draw, Ranks())


def test_a_student_that_is_not_the_pocket_model_needs_its_own_text_encoder_and_vae(tmp_path):
    """Forbids days of training on prompts that the toybox's text encoder has read."""
    student = wan_file(tmp_path / "student.safetensors")
    with pytest.raises(ConfigError, match="missing setting models.text_encoder: .*umt5"):
        build(with_models(student=student), draw, Ranks())
    with pytest.raises(ConfigError, match="missing setting models.vae: .*Wan2.1_VAE.pth"):
        vae_of(with_models(student=student), Ranks())
    given = with_models(student=student, text_encoder="pocket", vae="pocket")
    assert build(given, draw, Ranks()).encode(["a ball"]).shape[-1] == 4096
    assert isinstance(vae_of(given, Ranks()), WanVAE)


@pytest.mark.slow
def test_the_first_latent_of_a_clip_out_of_a_film():
    """Forbids a setting that is dropped, a VAE where nothing needs one, and a picture that becomes another one."""
    whole = {"clip": 6, "new": 6, "longest": 12}
    asked = ({}, {"first_latent": "film"}, {"lengths": {"longest": 21}, "switches": False}, {"lengths": whole})
    made = [build(from_dict({**SETTINGS, **one}), draw, Ranks()) for one in asked]
    assert [distil.as_image is None for distil in made] == [False, True, True, True]
    vae = vae_of(from_dict(SETTINGS), Ranks())
    look = world.Attributes("red", "ball", "rest", "sea")
    pixels = pixels_of(world.film([(0, look)], 45)[0][None])[..., 24:56, 48:80]  # the middle, where the ball is
    with torch.no_grad():
        latents, picture = encode_pixels(vae, pixels), encode_pixels(vae, pixels[:, :, 40:41])
    for one in (vae, vae_of(from_dict({**SETTINGS, "dtype": "bf16"}), Ranks())):
        made = image_latents(one)(latents[:, :, 5:11])
        assert made.shape == picture.shape and made.dtype == latents.dtype == torch.float32
        near, far = ((made - other).abs().mean() for other in (picture, latents[:, :, 10:11]))
        assert near < 0.3 * picture.abs().mean() < far


def test_int8_cannot_be_trained(tmp_path):
    """Forbids a traceback out of the optimiser."""
    weights = load_state_dict(weights_folder() / "pocket_dit.safetensors")
    save_file(quantise_state_dict(weights), str(tmp_path / "int8.safetensors"))
    with pytest.raises(ConfigError, match="models.critic: .*INT8.*training does not take"):
        build(with_models(critic=str(tmp_path / "int8.safetensors")), draw, Ranks())


def test_impossible_sample_films_are_reported_before_the_first_step():
    """Forbids a run that ends at its first sample film."""
    with pytest.raises(ValueError, match="sample_seconds 3600: .*absolute positions end at 1024"):
        from_dict({**SETTINGS, "preset": "longlive-1.3b", "sample_every": 2, "sample_seconds": 3600})


def test_the_average_keeps_what_its_setting_says():
    """Forbids an average that is shorter than configured, and one that begins before its step."""
    model = torch.nn.Linear(2, 2, bias=False)
    optimiser = MasterAdam({"m": model}, average=0.75, average_from=2)
    for step in range(4):
        before = optimiser.ema[0].clone()
        model.weight.grad = torch.ones(2, 2)
        optimiser.step(0.1)
        newest = optimiser.master[0]
        torch.testing.assert_close(optimiser.ema[0], newest if step < 2 else 0.75 * before + 0.25 * newest)


def test_numbers_as_people_write_them():
    """Forbids a rate of 3e-5, which YAML reads as a text, to fail in the first step."""
    config = from_dict({**SETTINGS, **yaml.safe_load("{student_optimiser: {rate: 3e-5}, guidance: 2, steps: 1e3}")})
    assert (config.student_optimiser.rate, config.guidance, config.steps) == (3e-5, 2.0, 1000)


def test_configuration_survives_its_file(tmp_path):
    """Forbids a stored configuration that reads as another one."""
    config = from_dict({**SETTINGS, "lora": {"rank": 4}})
    checkpoint.write_config(config, tmp_path / "config.yaml")
    stored = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert from_dict(stored) == config
