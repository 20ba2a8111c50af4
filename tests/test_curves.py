"""The curves of a training as a picture."""

import numpy as np
import pytest
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from benchmarks.curves import plot, running_mean, scalars


@pytest.fixture
def run(tmp_path):
    """A run that was interrupted after its fourth step, and went on from the second at other steps of its log."""
    for suffix, values in ((".b", {1: 5.0, 2: 4.0, 3: 99.0, 5: 98.0}), (".a", {4: 3.0})):
        with SummaryWriter(str(tmp_path / "run"), filename_suffix=suffix) as writer:
            for step, value in values.items():
                writer.add_scalar("critic/loss", value, step)
    return tmp_path / "run"


def test_the_later_part_of_a_run_counts(run):
    """Forbids points of steps that were thrown away."""
    steps, values = scalars(run)["critic/loss"]
    assert steps.tolist() == [1, 2, 3, 4] and values.tolist() == [5.0, 4.0, 99.0, 3.0]


def test_the_mean_is_of_the_points_before():
    """Forbids a curve that is moved against its points."""
    assert running_mean(np.array([1.0, 3.0, 5.0, 7.0]), 2).tolist() == [1.0, 2.0, 4.0, 6.0]


def test_a_picture_of_what_was_reported(run, tmp_path):
    """Forbids an empty picture, and a traceback for a folder without a run."""
    plot({"a run": run}, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size[0] > 300 and len(np.unique(np.asarray(picture))) > 10
    with pytest.raises(SystemExit, match="holds no TensorBoard files"):
        scalars(tmp_path)
