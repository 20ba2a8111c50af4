"""Step: those tests of the suite that need a CUDA device."""

from __future__ import annotations

from .environment import ROOT
from .notes import Notes, Setting


class Outcomes:
    """A pytest plugin that counts outcomes and keeps the messages of failures."""

    def __init__(self, notes: Notes):
        self.notes, self.counts, self.failures = notes, {"passed": 0, "failed": 0, "skipped": 0}, {}

    def pytest_runtest_logreport(self, report) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.counts[report.outcome] += 1
            if report.outcome == "failed":
                self.failures[report.nodeid] = report.longreprtext[-3000:]
            self.notes.update({"tests": dict(self.counts), "failures": dict(self.failures)})

    def pytest_collectreport(self, report) -> None:
        if report.failed:
            self.failures[report.nodeid or "collection"] = report.longreprtext[-3000:]
            self.notes.add(failures=dict(self.failures))


def run(setting: Setting, notes: Notes) -> None:
    import pytest

    outcomes = Outcomes(notes)
    code = pytest.main(["-q", "-p", "no:cacheprovider", str(ROOT / "tests" / "test_cuda.py")], plugins=[outcomes])
    counts = outcomes.counts
    notes.add(headline=", ".join(f"{number} {outcome}" for outcome, number in counts.items()))
    if setting.device == "cpu":
        return  # every test skips itself
    if code != 0 or not counts["passed"]:
        raise RuntimeError(f"pytest ended with code {int(code)}; {counts['failed']} of the tests failed")
