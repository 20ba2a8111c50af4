"""The rooms of `longlive_core`, and which imports which, read from the source.

A room is a folder of the package, or a module beside them. `LEVELS` is the one table of directions: a room imports only
rooms above it in the table. `tests/test_rooms.py` checks it.

    python scripts/rooms.py    # rewrite the map and the table of rooms in docs/architecture.md
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "longlive_core"
ROOT = Path(__file__).resolve().parents[1]
# From rooms that know nothing of the others to rooms that may know all of them.
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
NODES = "nodes"  # ComfyUI's nodes: no room of the core, but on the map
PAGE, PICTURE = "docs/architecture.md", "docs/images/rooms.svg"
START, END = "<!-- rooms: written by scripts/rooms.py -->", "<!-- end of rooms -->"


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Return the modules: dotted name below the package -> file. "" is the package itself."""
    folder = root / PACKAGE
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(module: str, known: dict[str, Path], typing: bool = True) -> set[str]:
    """Return the modules of the package that a module imports anywhere in its file.

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
    """Return for each room the rooms that it imports."""
    known = modules(root)
    found: dict[str, set[str]] = {room_of(module): set() for module in known if module not in ("", "__main__")}
    for module in known:
        if module not in ("", "__main__"):
            found[room_of(module)] |= {room_of(other) for other in imports(module, known)} - {room_of(module)}
    return found


def node_imports(root: Path = ROOT) -> set[str]:
    """Return the rooms of the core that ComfyUI's nodes import."""
    found = set()
    for path in sorted((root / NODES).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = (node.module or "").split(".") if isinstance(node, ast.ImportFrom) else []
            if parts[:1] == [PACKAGE]:
                found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the transitive reduction of a graph without cycles: without arrows that follow from others."""

    def below(node: str) -> set[str]:
        return graph[node].union(*map(below, graph[node]))

    return {node: direct - set().union(*map(below, direct)) for node, direct in graph.items()}


def purpose(room: str, root: Path = ROOT) -> str:
    """Return the first paragraph of a room's docstring, on one line."""
    folder = root if room == NODES else root / PACKAGE
    path = folder / room / "__init__.py"
    path = path if path.is_file() else folder / f"{room}.py"
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


def table(root: Path = ROOT) -> str:
    """Return the table of rooms, from the top of the map down: name, purpose, imported rooms."""
    graph = room_imports(root)
    lines = ["| room | what it is for | imports |", "|---|---|---|"]
    for room in (room for row in reversed(LEVELS) for room in row):
        name = f"{room}.py" if (root / PACKAGE / f"{room}.py").is_file() else f"{room}/"
        lines.append(f"| `{name}` | {purpose(room, root)} | {', '.join(sorted(graph[room])) or 'no other room'} |")
    return "\n".join(lines)


def with_table(page: str, root: Path = ROOT) -> str:
    """Return a page with the table of rooms put between its two marks."""
    between = re.compile(f"(?<={re.escape(START)}\n).*?(?={re.escape(END)})", re.DOTALL)
    text, count = between.subn(lambda _: f"\n{table(root)}\n\n", page)
    if count != 1:
        raise ValueError(f"{PAGE} needs the marks {START} and {END} once each, in this order")
    return text


def picture(root: Path = ROOT) -> str:
    """Return the map of rooms, as SVG."""
    from scripts.rooms_map import draw

    graph = reduced({**room_imports(root), NODES: node_imports(root)})
    rows = [*reversed(LEVELS)]
    rows[0] = (NODES, *rows[0])
    return draw(rows, graph, {room: _few_words(room, purpose(room, root)) for room in graph}, host=NODES)


def _few_words(room: str, text: str) -> str:
    """Return a docstring's first clause, or the second if the first is only the room's name."""
    clauses = re.split(r"[:;,.(] |[:;,.(]$| \(", text.replace("`", ""))
    words = clauses[clauses[0].lower().removeprefix("the ") == room]
    return words[:1].upper() + words[1:]


def main() -> None:
    page = ROOT / PAGE
    page.write_text(with_table(page.read_text(encoding="utf-8")), encoding="utf-8")
    (ROOT / PICTURE).parent.mkdir(parents=True, exist_ok=True)
    (ROOT / PICTURE).write_text(picture(), encoding="utf-8")
    print(f"wrote {PAGE} and {PICTURE}")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
