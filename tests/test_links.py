"""Links in the documents lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "tests/**/*.md")
    for path in ROOT.glob(pattern)
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
NO_FILES = {"take.json", "nodes/NAME.py", "web/docs/NODE.md"}  # written by a run, or stand for any name
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub derives them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    """Forbids links to pages, pictures and sections that were moved or renamed."""
    broken = []
    for path, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(f"{path}#{anchor}" if anchor else path)
    assert broken == []


def test_the_labs_index_is_whole():
    """Forbids a page of docs/lab without a link to it."""
    folder = ROOT / "docs" / "lab"
    linked = {path for path, _ in LINK.findall((folder / "README.md").read_text(encoding="utf-8"))}
    assert {path.name for path in folder.glob("*.md")} - {"README.md"} <= linked


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/adding.md", "docs/timeline.md"])
def test_files_that_are_named_exist(page):
    """Forbids instructions for developers that name files which were moved or renamed."""
    folders = ("longlive_core", "nodes", "web", "tests", "scripts", "docs", "workflows", "benchmarks")
    files = {path for folder in folders for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts}
    whole = [f"/{path.relative_to(ROOT).as_posix()}" for path in files]
    spans = re.findall(r"`([\w./-]+\.(?:py|js|json|md|toml))`", (ROOT / page).read_text(encoding="utf-8"))
    missing = {span for span in spans if not any(name.endswith(f"/{span}") for name in whole)}
    assert {span for span in missing - NO_FILES if not (ROOT / span).exists()} == set()
