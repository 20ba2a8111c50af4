"""The paper's code, reproduced: every recording of tests/fidelity within 1e-4 in float32 on the CPU."""

from pathlib import Path

import pytest

from longlive_core.run.replay import read_recording, replay, run

FOLDER = Path(__file__).parent / "fidelity"
RECORDINGS = sorted(path.stem for path in FOLDER.glob("*.safetensors"))
BOUND = 1e-4


def test_all_nine_recordings_are_here():
    assert len(RECORDINGS) == 9


@pytest.mark.parametrize("name", RECORDINGS)
def test_recording_is_reproduced(name, tmp_path):
    differences = replay(FOLDER / f"{name}.safetensors", tmp_path / "out.safetensors")
    expected = {"vae": {"decoded", "encoded"}, "umt5": {"context"}}.get(name, {"latents", "timesteps"})
    assert set(differences) == expected
    assert max(differences.values()) <= BOUND, differences


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("single_prompt", {"sink": 0}),
        ("single_prompt", {"window": 9}),
        ("switch_keep_sink", {"keep_sink": False}),
        ("switch_keep_sink", {"switch_frames": [6, 19]}),
        ("switch_reset_sink", {"keep_sink": True}),
        ("relative_rope", {"rope": "absolute"}),
        ("framewise", {"sink": 2}),
    ],
    ids=str,
)
def test_a_wrong_setting_is_far_outside_the_bound(name, change):
    """The recordings must be able to tell: a wrong sink, window or recache is a thousand bounds away."""
    tensors, config = read_recording(FOLDER / f"{name}.safetensors")
    latents = run(tensors, config | change)["latents"]
    assert (latents - tensors["latents"]).abs().max() > 100 * BOUND
