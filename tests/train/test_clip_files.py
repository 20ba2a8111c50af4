"""Folders of clips: writing, drawing, and what is refused."""

import pytest
import torch
from safetensors.torch import save_file

from longlive_core import cli
from longlive_core.cli.train_clips import ClipRequest
from longlive_core.train.config import from_dict
from longlive_core.train.data.clip_files import ClipFolder, ClipStream, read_shard, write_shard
from longlive_core.train.data.prompt_files import PromptPair, PromptStream
from longlive_core.train.teacher_clips import ClipSampler

from .conftest import TINY, tiny
from .test_causal_stage import encode


def clips(count: int, seed: int = 0, frames: int = 6) -> torch.Tensor:
    return torch.randn(count, 16, frames, 4, 4, generator=torch.Generator().manual_seed(seed)).bfloat16()


def texts(count: int, first: int = 0) -> list[str]:
    return [f"a ball, number {number}" for number in range(first, first + count)]


@pytest.fixture
def folder(tmp_path):
    write_shard(tmp_path / "a.safetensors", clips(3), texts(3))
    write_shard(tmp_path / "b.safetensors", clips(4, 1), texts(4, 3))
    return tmp_path


def test_what_is_written_is_read(folder):
    """Forbids clips with the prompts of others, and a folder in another order than its names'."""
    found = ClipFolder(folder)
    assert len(found) == 7 and found.shape == (16, 6, 4, 4)
    wanted = torch.cat([clips(3), clips(4, 1)])
    for number in range(7):
        latents, prompt = found[number]
        assert torch.equal(latents, wanted[number]) and prompt == f"a ball, number {number}"


def test_a_draw_needs_no_state_and_ranks_share_it(folder):
    """Forbids an epoch that repeats a clip, ranks that draw the same ones, and a draw that depends on earlier ones."""
    stream = ClipStream(ClipFolder(folder), seed=3)
    epoch = [stream.draw(step, 1).prompts[0] for step in range(7)]
    assert sorted(epoch) == texts(7)
    assert [stream.draw(step, 1).prompts[0] for step in range(7, 14)] != epoch
    fresh = ClipStream(ClipFolder(folder), seed=3)
    together = fresh.draw(5, 4)
    parts = [fresh.draw(5, 2, rank, 2) for rank in (0, 1)]
    assert torch.equal(together.latents, torch.cat([part.latents for part in parts]))
    assert together.prompts == parts[0].prompts + parts[1].prompts
    assert together.latents.dtype == torch.float32 and together.latents.shape == (4, 16, 6, 4, 4)


def test_a_folder_that_was_changed_is_reported(folder):
    """Forbids resuming with other clips under the same name."""
    before = ClipFolder(folder).fingerprint()
    assert ClipFolder(folder).fingerprint() == before
    write_shard(folder / "c.safetensors", clips(1), texts(1))
    assert ClipFolder(folder).fingerprint() != before


def save(path, latents, metadata):
    save_file({"latents": latents}, str(path), metadata)


@pytest.mark.parametrize(
    "break_it, words",
    [
        (lambda f: [path.unlink() for path in f.glob("*")], "holds no clips .*train-clips CONFIG.yaml --out FOLDER"),
        (
            lambda f: write_shard(f / "c.safetensors", clips(1, frames=9), texts(1)),
            "c.safetensors holds clips of 9 latent frames of 4x4 with 16 channels, a.safetensors beside it of 6",
        ),
        (
            lambda f: save(f / "c.safetensors", clips(1), {}),
            "c.safetensors: there are no 'prompts' in the metadata; expected a JSON list of 1 texts",
        ),
        (
            lambda f: save(f / "c.safetensors", clips(1), {"prompts": "a ball"}),
            "c.safetensors: 'prompts' .* is not JSON",
        ),
        (lambda f: save(f / "c.safetensors", clips(1), {"prompts": '{"a": 1}'}), "is not a list of texts"),
        (lambda f: save(f / "c.safetensors", clips(1), {"prompts": '[" "]'}), "is not a list of texts"),
        (lambda f: save(f / "c.safetensors", clips(2), {"prompts": '["a"]'}), "c.safetensors: 2 clips but 1 prompts"),
        (lambda f: save(f / "c.safetensors", clips(1)[0], {"prompts": '["a"]'}), r"is BF16 of shape \[16, 6, 4, 4\]"),
        (lambda f: save(f / "c.safetensors", clips(1).int(), {"prompts": '["a"]'}), "'latents' is I32"),
        (
            lambda f: save_file({"weight": clips(1)}, str(f / "c.safetensors")),
            r"no tensor 'latents' \(it has: weight\)",
        ),
        (
            lambda f: (f / "c.safetensors").write_bytes((f / "a.safetensors").read_bytes()[:-9]),
            "c.safetensors is damaged",
        ),
    ],
)
def test_faults_of_a_folder_are_named(folder, break_it, words):
    """Forbids a fault that shows hours later, as a traceback, or without the file's name."""
    break_it(folder)
    with pytest.raises(ValueError, match=words):
        ClipFolder(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    """Forbids an empty folder's message for a mistyped name."""
    with pytest.raises(ValueError, match="there is no folder of clips '.*nowhere'"):
        ClipFolder(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "latents, prompts, words",
    [
        (clips(2), texts(1), r"clips of shape \[2, 16, 6, 4, 4\] with 1 prompts"),
        (clips(1)[0], texts(16), r"clips of shape \[16, 6, 4, 4\]"),
        (clips(1) / 0, texts(1), "contain NaN or infinite numbers"),
        (torch.cat([clips(1), clips(1) * 0]), texts(2), "number 1 have empty latent frames"),
    ],
)
def test_bad_clips_are_not_written(tmp_path, latents, prompts, words):
    """Forbids a shard that no training can read, and half a file."""
    with pytest.raises(ValueError, match=words):
        write_shard(tmp_path / "a.safetensors", latents, prompts)
    assert not list(tmp_path.iterdir())


# --- train-clips


def sampler(prompt: str = "a ball", guidance: float = 3.0) -> ClipSampler:
    config = from_dict(
        {
            "models": {"student": "pocket", "teacher": "pocket", "critic": "pocket"},
            "prompts": "toybox",
            "preset": "pocket",
            "size": [32, 32],
            "lengths": {"clip": 3, "new": 3, "longest": 3},
            "batch": 2,
        }
    )
    draw = PromptStream([PromptPair(prompt)], 0).draw
    return ClipSampler(config, tiny(1), encode, draw, steps=2, guidance=guidance)


def test_a_clip_follows_from_its_number():
    """Forbids one noise for every batch of clips, a clip that depends on the others sampled with it, and a sampler
    that drops prompt or guidance."""
    told = []
    made, prompts = sampler().clips(range(4), told.append)
    assert made.shape == (4, TINY.in_dim, 3, 4, 4) and made.dtype == torch.bfloat16
    assert prompts == ["a ball"] * 4 and told == [2, 2]
    for number in range(4):
        alone, _ = sampler().clips(range(number, number + 1), told.append)
        torch.testing.assert_close(alone[0], made[number], rtol=2e-2, atol=2e-2)
        assert all((made[number] - made[other]).abs().mean() > 0.1 for other in range(number))
    for other in (sampler("a cube"), sampler(guidance=0.0)):
        assert not torch.equal(other.clips(range(4), told.append)[0], made)


COMMAND = [
    "train-clips",
    "debug-causal",
    "--steps",
    "2",
    "--set",
    "size=[32,32]",
    "--set",
    "lengths={clip: 6, new: 6, longest: 6}",
    "--set",
    "batch=3",
    "--threads",
    "1",
]


def make(capsys, out, count: int, *more: str) -> tuple[int, str]:
    code = cli.main([*COMMAND, "--out", str(out), "--count", str(count), *more])
    return code, capsys.readouterr().err


def test_the_command_fills_a_folder_in_several_goes(tmp_path, capsys):
    """Forbids clips that depend on the time of sampling, clips sampled twice, and a last shard that stays short."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert make(capsys, whole, 10)[0] == 0
    first = read_shard(whole / "clips-000000.safetensors")
    assert len(first.prompts) == 8 and first.shape == (16, 6, 4, 4) and len(ClipFolder(whole)) == 10
    assert make(capsys, parts, 9)[0] == 0
    stamp = (parts / "clips-000000.safetensors").stat().st_mtime_ns
    assert make(capsys, parts, 10)[0] == 0
    assert (parts / "clips-000000.safetensors").stat().st_mtime_ns == stamp
    one, other = ClipFolder(whole), ClipFolder(parts)
    assert one.fingerprint() == other.fingerprint()
    for number in range(10):
        torch.testing.assert_close(one[number][0], other[number][0], rtol=2e-2, atol=2e-2)
    assert not torch.equal(one[0][0], one[1][0]) and one[0][1] != one[1][1]


def test_the_command_refuses_to_mix(tmp_path, capsys):
    """Forbids a folder whose clips are of two samplers, unseen."""
    assert make(capsys, tmp_path, 1)[0] == 0
    code, told = make(capsys, tmp_path, 9, "--guidance", "1.5")
    assert code == 2 and "guidance was 3.0 and is 1.5" in told and told.count("\n") == 1
    assert len(ClipFolder(tmp_path)) == 1


def test_ranks_share_the_files_even_if_one_is_ahead(tmp_path):
    """Forbids files that no rank writes, because a fast one had written another while a slow one still counted."""
    order = ClipRequest(tmp_path, 30, {})
    slow, fast = order.missing(1, 2), order.missing(0, 2)
    assert sorted(number for _, numbers in slow + fast for number in numbers) == list(range(30))
    write_shard(fast[0][0], clips(8), texts(8))
    assert order.missing(1, 2) == slow and order.missing(0, 2) == fast[1:]
