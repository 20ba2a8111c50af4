"""The registry's package, unpacked into a clean ComfyUI."""

import urllib.request

import pytest

from scripts import templates
from scripts.harness import graphs
from scripts.harness.client import ComfyClient
from scripts.harness.server import PACK_NAME as FOLDER
from scripts.harness.server import ComfyServer

from .. import package
from ..test_packaging import needs_git

pytestmark = [pytest.mark.comfy, pytest.mark.slow, needs_git]


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    base = tmp_path_factory.mktemp("clean")
    package.unpack(base / "custom_nodes" / FOLDER)  # the server treats it as an installed pack, and links none
    with ComfyServer(base) as server:
        yield server


def status(server, path: str) -> int:
    with urllib.request.urlopen(f"{server.url}/{path}", timeout=60) as answer:
        return answer.status if answer.read(1) else 204


def test_nodes_templates_help_and_pictures_are_there(packed):
    """Forbids a package that ComfyUI loads without its nodes, templates, help pages or their pictures."""
    with ComfyClient(packed.url) as client:
        nodes = {name for name in client.get("/object_info") if name.startswith("LongLive")}
        shown = client.get("/workflow_templates")
    pages = {path.stem for path in (package.ROOT / "web" / "docs").glob("*.md")}
    assert nodes == pages
    assert set(shown[FOLDER]) == {templates.file_name(name) for name in templates.NAMES}
    for node in nodes:
        for end in ("md", "webp"):
            assert status(packed, f"extensions/{FOLDER}/docs/{node}.{end}") == 200
    for name in templates.NAMES:
        for end in ("json", "jpg"):
            assert status(packed, f"api/workflow_templates/{FOLDER}/{templates.file_name(name)}.{end}") == 200


def test_the_pocket_model_makes_a_film(packed):
    """Forbids a package without something that a film of the pocket model needs."""
    with ComfyClient(packed.url) as client:
        run = client.run(graphs.film(graphs.POCKET))
    assert run.status == "execution_success", run.error
    assert not (packed.base / "custom_nodes" / FOLDER).is_symlink()
