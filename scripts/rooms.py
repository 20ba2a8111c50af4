"""The rooms of `longlive_core`, and which imports which, read from the source.

A room is a folder of the package, or a module beside them. `LEVELS` is the one table of directions: a room imports only
rooms above it in the table. `tests/test_rooms.py` keeps it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "longlive_core"
ROOT = Path(__file__).resolve().parents[1]
# From what knows nothing of the others to what knows all of them.
LEVELS = (
    ("words", "cancelling", "config", "sizes", "files", "device", "quant", "toybox"),
    ("timeline", "model", "vae"),
    ("engine", "checkpoints"),
    ("film",),
    ("takes",),
    ("run", "eval"),
    ("train",),
    ("pocket",),
    ("cli",),
)


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Dotted name below the package -> file; "" is the package itself."""
    folder = root / PACKAGE
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(module: str, known: dict[str, Path], typing: bool = True) -> set[str]:
    """Modules of the package that a module imports, wherever in its file.

    typing: also those that it imports for type hints alone, under `TYPE_CHECKING`.
    """
    path = known[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    package = [part for part in package if part]
    found = set()
    for node in _walk(ast.parse(path.read_text(encoding="utf-8")), typing):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            base = node.module.split(".")[1:]
        else:
            continue
        for alias in node.names:
            whole = ".".join([*base, alias.name])
            found.add(whole if whole in known else ".".join(base))
    return found - {module, ""}


def _walk(tree: ast.AST, typing: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not typing and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _walk(node, typing)


def room_of(module: str) -> str:
    return module.split(".")[0]


def room_imports(root: Path = ROOT) -> dict[str, set[str]]:
    """Room -> the rooms that it imports."""
    known = modules(root)
    found: dict[str, set[str]] = {room_of(module): set() for module in known if module not in ("", "__main__")}
    for module in known:
        if module not in ("", "__main__"):
            found[room_of(module)] |= {room_of(other) for other in imports(module, known)} - {room_of(module)}
    return found
