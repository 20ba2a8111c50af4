"""`scripts.harness` depends on no test: tests import it, never the other way round."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TWIN = "tests.naive"  # the naive cache, which benchmarks/rollout.py measures beside ours


def imported(path):
    """-> the modules that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module


def test_scripts_and_benchmarks_import_no_tests():
    """Forbids scripts that break when a test file is renamed, and that need the tests to run."""
    files = [path for folder in ("scripts", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    found = {(path.relative_to(ROOT).as_posix(), name) for path in files for name in imported(path)}
    assert {entry for entry in found if entry[1].split(".")[0] == "tests"} == {("benchmarks/rollout.py", TWIN)}
    assert ("benchmarks/gpu/server.py", "scripts.harness.server") in found
