"""Reports: all numbers in files that other programs read, the same columns always, plots that open."""

import csv
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from longlive_core.eval import EvaluationSettings, evaluate_film, open_film
from longlive_core.eval.plots import plot_film
from longlive_core.eval.report import film_row, segment_rows, summary, switch_rows, write_reports
from tests.eval.making import write_truth
from tests.eval.test_clip_dino import Plane

pytestmark = pytest.mark.slow

SETTINGS = EvaluationSettings(toybox=True, judge_stride=8)


class Words(Plane):
    def texts(self, texts):
        return self._directions(len(text) for text in texts)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return open_film(write_truth(tmp_path_factory.mktemp("films") / "a $^^$ film.mp4"))


@pytest.fixture(scope="module")
def full(film):
    return evaluate_film(film, SETTINGS, "a $^^$ film", Words(), Words())


@pytest.fixture(scope="module")
def plain(film):
    return evaluate_film(film, EvaluationSettings(), "plain")


def test_a_film_of_the_renderer_is_measured_from_its_file(full):
    """Forbids that encoding, decoding or the tags corrupt what is right in memory."""
    assert full.toybox.adherence == 1 and full.toybox.smooth == 1
    assert [segment.start for segment in full.toybox.segments] == [0, 69]
    assert full.drift.frames == 165 and full.toybox.ground_error < 5
    assert full.drift.own is None  # no segment has two windows


def test_columns_do_not_depend_on_what_was_measured(full, plain):
    """Forbids tables of two runs that cannot be laid together."""
    for rows in (lambda report: [film_row(report)], segment_rows, switch_rows):
        one, two = rows(full), rows(plain)
        assert [list(row) for row in one] == [list(row) for row in two]
        assert len(one) == len(two)
    assert film_row(plain)["toybox_adherence"] is None and film_row(full)["model_clip_score"] is not None
    switch = switch_rows(full)[0]
    assert None not in [switch[name] for name in ("subject_jump", "pixel_ratio", "clip_largest", "dino_largest")]


def test_the_files_hold_it_all(full, plain, tmp_path):
    """Forbids NaN in JSON, numbers that are only printed, and results without their settings."""
    paths = write_reports([full, plain], tmp_path / "new" / "folder", SETTINGS, {"clip": "mine"})
    assert [path.name for path in paths] == ["results.json", "films.csv", "segments.csv", "switches.csv"]
    result = json.loads(paths[0].read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert result["settings"] == {"toybox": True, "judge_stride": 8, "feature_stride": 8, "clip": "mine"}
    assert result["films"][0]["toybox"]["segments"][1]["asked"]["setting"] == "night"
    assert len(result["films"][0]["drift"]["windows"]) == len(full.drift.windows)
    for path, count in zip(paths[1:], (2, 4, 2), strict=True):
        rows = list(csv.DictReader(path.open(encoding="utf-8", newline="")))
        assert len(rows) == count and rows[0]["film"] == "a $^^$ film"
    assert float(rows[0]["subject_jump"]) == full.toybox.switches[0].jump
    assert result["summary"]["drift_sink_colour"]["count"] == 2
    assert "toybox_adherence" not in result["summary"]  # of one film only


def test_a_film_without_a_switch_leaves_no_rows_of_another_one(plain, tmp_path):
    """Forbids the switches of an earlier evaluation beside the numbers of this one."""
    single = replace(plain, drift=replace(plain.drift, switches=()))
    write_reports([plain], tmp_path, SETTINGS)
    assert (tmp_path / "switches.csv").exists()
    paths = write_reports([single], tmp_path, SETTINGS)
    assert not (tmp_path / "switches.csv").exists() and len(paths) == 3


def test_one_film_has_no_interval(full):
    """Forbids an interval that says a single film is sure."""
    assert summary([full]) == {}


def test_plots_open_and_show_something(full, plain, tmp_path):
    """Forbids plots that are blank or fail on a film's name, and an empty plot of adherence where none was measured."""
    paths = plot_film(full, tmp_path)
    assert [path.name for path in paths] == ["a $^^$ film_drift.png", "a $^^$ film_adherence.png"]
    for path in paths:
        picture = np.asarray(Image.open(path).convert("RGB"))
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
    assert [path.name for path in plot_film(plain, tmp_path)] == ["plain_drift.png"]


def test_plots_without_matplotlib_say_what_to_install(plain, tmp_path, monkeypatch):
    """Forbids a traceback for an optional package."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match="pip install matplotlib"):
        plot_film(plain, tmp_path)


def test_results_that_cannot_be_written_are_reported(plain, tmp_path):
    """Forbids hours of evaluation that end in a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write results into"):
        write_reports([plain], tmp_path / "file", SETTINGS)
    with pytest.raises(ValueError, match="cannot write the plot"):
        plot_film(plain, tmp_path / "none")


@pytest.mark.parametrize("change", [{"size": (64, 64)}, {"fps": 24.0}])
def test_the_judge_reads_only_what_it_can(film, change):
    """Forbids guesses: other sizes and rates are reported before a frame is decoded."""
    from dataclasses import replace

    with pytest.raises(ValueError, match="the judge of the toybox reads 128 x 80 at 16"):
        evaluate_film(replace(film, path="none.mp4", **change), SETTINGS, "film")
