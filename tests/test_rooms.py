"""Which room of the core may import which; the table is `scripts/rooms.py`."""

import ast
import graphlib
import shutil
import sys
from pathlib import Path

import pytest

from scripts import rooms

LEVEL = {room: level for level, row in enumerate(rooms.LEVELS) for room in row}


def wrong_ways(root: Path = rooms.ROOT) -> list[str]:
    """Return the imports between rooms that do not point up the table."""
    return sorted(
        f"{room} imports {other}"
        for room, others in rooms.room_imports(root).items()
        for other in others
        if LEVEL[other] >= LEVEL[room]
    )


def test_every_room_is_in_the_table():
    """Forbids a room that is missing in the table, and an entry whose room was removed."""
    assert set(LEVEL) == set(rooms.room_imports())
    assert len(LEVEL) == sum(map(len, rooms.LEVELS))


def test_imports_point_one_way():
    """Forbids a room that imports one beside or below it, also inside a function or for a type hint."""
    assert wrong_ways() == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("words/wording.py", "from ..takes import TakeStore"),
        ("engine/noise.py", "def f():\n    from longlive_core.film import video"),
        ("takes/keys.py", "if TYPE_CHECKING:\n    from .. import run"),
    ],
)
def test_a_wrong_import_is_found(tmp_path, module, line):
    """Forbids reading imports without one of the ways to write them."""
    shutil.copytree(rooms.ROOT / rooms.PACKAGE, tmp_path / rooms.PACKAGE, ignore=shutil.ignore_patterns("weights"))
    path = tmp_path / rooms.PACKAGE / module
    path.write_text(f"{path.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")
    assert len(wrong_ways(tmp_path)) == 1


def test_no_module_imports_itself_in_a_circle():
    """Forbids two modules that need each other when they are loaded, also inside a room or a function."""
    known = rooms.modules()
    graph = {module: rooms.imports(module, known, typing=False) for module in known}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError with the circle


def test_a_plan_knows_neither_text_nor_snapping():
    """Forbids a plan that can be reached only through a parser: text -> script -> plan is one way."""
    known = rooms.modules()
    reached, left = set(), ["timeline.plan"]
    while left:
        reached.add(module := left.pop())
        left += [other for other in rooms.imports(module, known) if rooms.room_of(other) == "timeline"]
    assert reached == {"timeline.plan", "timeline.limits", "timeline.syntax"}


def test_the_core_knows_no_host():
    """Forbids ComfyUI, or the nodes, in the core."""
    hosts = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "nodes", "server", "execution"}
    assert not {name.split(".")[0] for path in rooms.modules().values() for name in _foreign(path)} & hosts


def _foreign(path: Path) -> set[str]:
    """Return the modules of other packages that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module)
    return found


def test_words_and_settings_need_no_torch():
    """Forbids a low room that loads PyTorch: `--help` and errors in a timeline must answer at once."""
    for room in ("words", "cancelling", "sizes", "timeline"):
        for module, path in rooms.modules().items():
            if rooms.room_of(module) == room:
                assert (
                    not {name.split(".")[0] for name in _foreign(path)} - set(sys.stdlib_module_names) - {"__future__"}
                )
