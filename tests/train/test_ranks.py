"""Training on two processes (gloo on the CPU) is training on one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .test_causal_stage import write_clips

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent / "ranks.py"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def trained(out: Path, count: int, steps: int, *folder: Path, stage: str = "distil") -> dict:
    launcher = TORCHRUN if count == 2 else [sys.executable]
    done = subprocess.run(
        [*launcher, SCRIPT, stage, out, str(steps), *folder],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=3000,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(out, weights_only=True)


def assert_same(one: dict, two: dict) -> None:
    assert one["weights"].keys() == two["weights"].keys()
    for name, value in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], value, rtol=1e-4, atol=1e-5, msg=name)
    for mine, theirs in zip(one["scalars"], two["scalars"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> dict:
    return trained(tmp_path_factory.mktemp("ranks") / "two.pt", 2, 3)


def test_a_step_on_two_ranks_is_the_step_on_one(two, tmp_path):
    """Forbids gradients that are summed instead of averaged, ranks that draw the same films, and a clipped norm of
    each rank's own."""
    one = trained(tmp_path / "one.pt", 1, 3)
    assert_same(one, two)
    assert any(step["student/gradient_norm"] > 0.05 for step in one["scalars"] if "student/gradient_norm" in step)


def test_two_ranks_continue_as_if_never_interrupted(two, tmp_path):
    """Forbids a rank that continues another's film or shards."""
    trained(tmp_path / "first.pt", 2, 2, tmp_path / "run")
    again = trained(tmp_path / "second.pt", 2, 3, tmp_path / "run")
    assert all(torch.equal(again["weights"][name], value) for name, value in two["weights"].items())


def test_a_causal_start_on_two_ranks_is_one_on_one(tmp_path):
    """Forbids ranks that draw the same clips, noise, timesteps or levels, a teacher or target of another rank's shards,
    and a continuation across the border between the halves that is another training."""
    write_clips(tmp_path / "clips")
    one = trained(tmp_path / "one.pt", 1, 4, stage="causal")
    two = trained(tmp_path / "two.pt", 2, 4, stage="causal")
    assert_same(one, two)
    assert {"autoregressive/loss", "consistency/loss"} <= {name for step in one["scalars"] for name in step}
    trained(tmp_path / "first.pt", 2, 3, tmp_path / "run", stage="causal")
    again = trained(tmp_path / "second.pt", 2, 4, tmp_path / "run", stage="causal")
    assert all(torch.equal(again["weights"][name], value) for name, value in two["weights"].items())


def test_the_mean_of_gradients_is_that_of_all_ranks(tmp_path):
    """Forbids ranks that drift apart: another mean on each, or one that leaves out weights without a gradient."""
    script = tmp_path / "mean.py"
    script.write_text("""
import sys, torch
from longlive_core.train.parallel import launched_ranks
with launched_ranks("cpu") as ranks:
    one, two, three = (torch.nn.Parameter(torch.zeros(n, 2, dtype=torch.bfloat16)) for n in (1, 3, 2))
    one.grad = torch.full_like(one, 1.0 + ranks.rank)
    if ranks.first:
        two.grad = torch.full_like(two, 5.0)
    ranks.mean_gradients([one, two, three])
    torch.save([p.grad for p in (one, two, three)], f"{sys.argv[1]}-{ranks.rank}.pt")
""")
    environment = ENVIRONMENT | {"PYTHONPATH": str(SCRIPT.parents[2])}
    done = subprocess.run(
        [*TORCHRUN, script, tmp_path / "mean"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=3000,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    expected = [((1, 2), torch.bfloat16, {1.5}), ((3, 2), torch.bfloat16, {2.5}), ((2, 2), torch.bfloat16, {0.0})]
    for rank in range(2):
        means = torch.load(tmp_path / f"mean-{rank}.pt", weights_only=True)
        assert [(tuple(m.shape), m.dtype, set(m.flatten().tolist())) for m in means] == expected
