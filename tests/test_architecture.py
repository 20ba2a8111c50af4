"""docs/architecture.md says what is true: its names exist, its tests exist, its map and table are up to date."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from scripts import rooms

ROOT = rooms.ROOT
PAGE = (ROOT / rooms.PAGE).read_text(encoding="utf-8")
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
TEST = re.compile(r"(tests/[\w/]+\.py)::(\w+)")
NAME = re.compile(r"_?[A-Za-z][\w.]*")
PLACES = ("", "longlive_core/", "nodes/")  # a path on the page begins in one of them
# ComfyUI's, PyTorch's and the language's own names, files of a take, and what is no name: values, keywords, events.
FOREIGN = {
    *("VideoFromFile", "BaseException", "finally", "with", "comfy", "growing.mp4", "film.mp4", "longlive.chunk"),
    *("recache", "keep", "cut", "attend", ".weight", "COMFYUI_PATH"),
}


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def without_table() -> str:
    """The page without the part that is written by scripts/rooms.py."""
    return PAGE.split(rooms.START)[0] + PAGE.split(rooms.END)[1]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def defined() -> dict[str, set[str]]:
    """Owner -> names that it defines. Owners: classes and modules by their last name, and "" for all of them."""
    names: dict[str, set[str]] = {"": set()}
    for top in ("longlive_core", "nodes"):
        for path in (ROOT / top).rglob("*.py"):
            stem = path.parent.name if path.name == "__init__.py" else path.stem
            _collect(tree(path), names, stem)
    _collect(tree(ROOT / "__init__.py"), names, "__init__")
    return names


def _collect(node: ast.AST, names: dict[str, set[str]], owner: str) -> None:
    for child in ast.iter_child_nodes(node):
        found = _names(child)
        names[""] |= found
        names.setdefault(owner, set()).update(found)
        if isinstance(child, ast.ClassDef):
            _collect(child, names, child.name)
        elif not isinstance(child, ast.expr):
            _collect(child, names, owner)


def _names(node: ast.AST) -> set[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {node.name}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    if isinstance(node, ast.Assign):
        targets = [target for whole in node.targets for target in ast.walk(whole)]
        return {t.id if isinstance(t, ast.Name) else t.attr for t in targets if isinstance(t, ast.Name | ast.Attribute)}
    if isinstance(node, ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    return set()


def exists(span: str) -> bool:
    """Whether a path, or a name such as `Shot.switch`, is in this repository."""
    if "/" in span or re.search(r"\.(py|md|js|json|svg)$", span):
        return any(bool(list(ROOT.glob(place + span.strip("/")))) for place in PLACES)
    owner, _, name = span.rpartition(".")
    return name in defined().get(owner.rpartition(".")[2], set())


def test_names_on_the_page_exist():
    """Forbids a page that names files, classes and functions which were moved or renamed."""
    spans = {span for span in SPAN.findall(without_table()) if "::" not in span and span not in FOREIGN}
    names = {span.removesuffix("()") for span in spans if "/" in span or NAME.fullmatch(span.removesuffix("()"))}
    commands = {span for span in names if " " in span}
    assert len(names) > 60
    assert sorted(name for name in names - commands if not exists(name)) == []


@pytest.mark.parametrize("wrong", ["Shot.swich", "longlive_core/engine/gone.py", "nowhere", "noise.RollingCache"])
def test_a_wrong_name_is_found(wrong):
    """Forbids a check that accepts any name as one of ours."""
    assert not exists(wrong)


def test_every_statement_names_its_tests():
    """Forbids a statement of what must stay true that nothing checks, and one whose test was removed."""
    statements = re.split(r"^- ", section("What must stay true"), flags=re.MULTILINE)[1:]
    assert len(statements) >= 5
    for statement in statements:
        tests = TEST.findall(statement)
        assert tests, statement
        for path, name in tests:
            found = {node.name for node in tree(ROOT / path).body if isinstance(node, ast.FunctionDef)}
            assert name in found, f"{path}::{name}"


def calls(method: str) -> set[str]:
    """Files of the core in which a method of this name is called."""
    return {
        path.relative_to(ROOT / rooms.PACKAGE).as_posix()
        for path in rooms.modules().values()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method
    }


def test_one_forward_one_shot():
    """Forbids a second way to sample, and a stage of training that works in another way than the page says."""
    callers = calls("velocity")
    assert "engine/shot.py" in callers
    elsewhere = {path for path in callers if path.split("/")[0] not in ("train", "pocket")}
    assert elsewhere == {"engine/shot.py"}
    assert not {path for path in callers if path.startswith("train/distillation/")}
    bases = {
        ast.unparse(base)
        for path in (ROOT / "longlive_core/train/distillation").glob("*.py")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and node.name == "StudentShot"
        for base in node.bases
    }
    assert bases == {"Shot"}


def test_map_and_table_of_rooms_are_up_to_date():
    """Forbids a map and a table that show another code than this one."""
    written = rooms.with_table(PAGE), (ROOT / rooms.PICTURE).read_text(encoding="utf-8")
    assert written == (PAGE, rooms.picture()), "run python scripts/rooms.py"


def test_every_room_says_what_it_is_for():
    """Forbids a row of the table with nothing in it."""
    assert [room for room in rooms.room_imports() if len(rooms.purpose(room)) < 20] == []
