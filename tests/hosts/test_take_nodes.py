"""Load Take and Branch Take in stand-ins for ComfyUI, with takes that were not rendered."""

import asyncio
import json
import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from longlive_core.takes import TakeStore

from ..damaged_takes import spoiled
from ..made_takes import manifest, place
from . import fakes

pytestmark = pytest.mark.slow

STORY = "0s A red ball bounces\n4s A blue ball bounces {cut}"


@pytest.fixture
def host(tmp_path):
    return fakes.Host(fakes.NEW, tmp_path / "temp")


FIRST, SECOND = manifest(1, STORY, 8, used=100.0), manifest(2, "A star", 4, used=200.0)
DAMAGED = "0" * 11 + "3"


@pytest.fixture
def store(host):
    """Two takes, the second one newer and half rendered, and a damaged one."""
    made = TakeStore(f"{host.temp}_output/longlive")
    place(made, FIRST)
    place(made, SECOND, 3)
    made.take_folder(DAMAGED).mkdir()
    (made.take_folder(DAMAGED) / "take.json").write_text("{")
    return made


def schema_choices(package) -> list[str]:
    (widget,) = package.nodes.takes.LongLiveLoadTake.define_schema().given["inputs"]
    return widget.given["options"]


def test_choices(host, store):
    """Forbids a list that is built once, stops at a damaged take, or has the oldest on top."""
    with host.pack() as package:
        choices = package.nodes.take_choices.choices
        second, first, damaged = choices()
        assert damaged == f"cannot be read [{DAMAGED}]"
        assert second.endswith(f" · 2.1 of 4.3 s · 128x80 · A star [{SECOND.id}]")
        assert " · 8.6 s · " in first
        late = manifest(4, "A late one", 4, used=300.0)
        place(store, late)
        assert choices()[0].endswith(f"A late one [{late.id}]")
        place(store, SECOND)
        assert any(" · 4.3 s · 128x80 · A star [" in choice for choice in choices())


def test_no_takes_yet(host):
    """Forbids a list that fails in a new installation, and a folder created by reading."""
    with host.pack() as package:
        assert package.nodes.take_choices.choices() == []
        assert not Path(f"{host.temp}_output").exists()


def answer(package) -> tuple[int, dict]:
    """Of the route."""
    response = asyncio.run(package.nodes.take_choices.list_choices(None))
    return response.status, json.loads(response.text)


def test_the_list_over_http(host, store):
    """Forbids a list that the front end cannot read, and one that is empty without a reason."""
    with host.pack() as package:
        assert answer(package) == (200, {"choices": package.nodes.take_choices.choices()})
        shutil.rmtree(store.folder)
        assert answer(package) == (200, {"choices": []})


class Watch:
    """Records what is opened and listed inside a folder. Python keeps audit hooks forever, so there is one."""

    def __init__(self):
        self.folder, self.seen = None, []
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple) -> None:
        if self.folder is not None and event in ("open", "os.listdir", "os.scandir", "os.mkdir"):
            path = str(arguments[0])
            if path.startswith(self.folder):
                self.seen.append((event, path))


WATCH = Watch()


@pytest.fixture
def watched(host):
    WATCH.folder, WATCH.seen = f"{host.temp}_output", []
    yield WATCH
    WATCH.folder = None


def test_no_schema_depends_on_what_is_stored(host, store, watched):
    """Forbids /object_info, and every check of a prompt, that reads the takes; and nodes that disappear with a take."""
    with host.pack() as package:
        nodes = asyncio.run(package.nodes.LongLiveExtension().get_node_list())
        for node in nodes:
            node.define_schema()
        assert schema_choices(package) == ["newest"]
        assert watched.seen == []
        package.nodes.take_choices.choices()
        assert watched.seen  # the hook sees what it should


def broken_store(place_of: Path, kind: str) -> None:
    place_of.parent.mkdir(parents=True, exist_ok=True)
    if kind == "a file in its place":
        place_of.write_bytes(b"")
    elif kind == "a dead link in its place":
        place_of.symlink_to("nowhere")
    elif kind == "a file for its takes":
        place_of.mkdir()
        (place_of / "takes").write_bytes(b"")
    elif kind == "no rights":
        (place_of / "takes").mkdir(parents=True)
        (place_of / "takes").chmod(0)
    else:
        spoiled(TakeStore(place_of))


@pytest.mark.skipif(os.name != "posix", reason="needs links and rights")
@pytest.mark.parametrize(
    "kind", ["a file in its place", "a dead link in its place", "a file for its takes", "no rights", "damaged takes"]
)
def test_the_pack_is_imported_whatever_lies_in_the_store(host, kind):
    """Forbids IMPORT FAILED, or a node less, because of a leftover file."""
    folder = Path(f"{host.temp}_output/longlive")
    broken_store(folder, kind)
    try:
        with host.pack() as package:
            nodes = asyncio.run(package.nodes.LongLiveExtension().get_node_list())
            assert len({node.define_schema().node_id for node in nodes}) == 7
            status, said = answer(package)
            assert status == 200 or said["error"]
            listed = package.nodes.routes.live._all_takes() if status == 200 else []
            named = [take["take"] for take in (json.loads(listed)["takes"] if isinstance(listed, str) else listed)]
            assert sorted(named) == sorted(choice[-13:-1] for choice in said.get("choices", []))
    finally:
        if kind == "no rights":
            (folder / "takes").chmod(0o700)


@pytest.mark.parametrize(
    "name",
    [
        None,
        "newest",
        FIRST.id,
        f"2026-11-28 14:02 · 12.8 s · words [{FIRST.id}]",
        f"{FIRST.id} A red ball",
        f"odd [words] [{FIRST.id}]",
    ],
)
def test_what_names_a_take(host, store, name):
    """Forbids graphs that hold only while the list reads as it did, and programs that have to read it."""
    with host.pack() as package:
        node = package.nodes.takes.LongLiveLoadTake
        assert node.validate_inputs(name=name) is True
        if name not in (None, "newest"):
            (handle,), said = node.execute(name)
            assert (handle.id, handle.chunks) == (FIRST.id, len(FIRST.keys))
            assert "longlive" not in said and "/" not in said


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("000000000009", "there is no take 000000000009"),
        ("a red ball", "'a red ball' does not name a take"),
        (f"cannot be read [{DAMAGED}]", "is damaged"),
        ("", "does not name a take"),
        (5, "5 does not name a take"),
        ("../../etc [x]", "does not name a take"),
    ],
)
def test_an_invalid_name_is_reported_when_queued(host, store, name, words):
    """Forbids a run that fails in its middle over a name."""
    with host.pack() as package:
        assert words in package.nodes.takes.LongLiveLoadTake.validate_inputs(name=name)


def test_the_newest_take(host, store):
    """Forbids a newest take that has nothing yet, that is the newest by a wrong clock, or that cannot be read."""
    place(store, manifest(5, "A take without a chunk", 4, used=400.0), 0)
    place(store, manifest(6, "A take of the future", 4, used=time.time() + 1e7))
    with host.pack() as package:
        (handle,), _ = package.nodes.takes.LongLiveLoadTake.execute("newest")
        assert handle.id == SECOND.id
        shutil.rmtree(store.folder)
        with pytest.raises(ValueError, match="there is no take yet: render a film first"):
            package.nodes.takes.LongLiveLoadTake.execute("newest")


def test_a_take_without_a_chunk(host, store):
    """Forbids "allowed are 0 to -1" where nothing is rendered, in every node that takes a take."""
    empty = manifest(5, "A take without a chunk", 4)
    place(store, empty, 0)
    words = f"take {empty.id} has no chunk rendered yet: queue its timeline"
    with host.pack() as package:
        takes, given = package.nodes.takes, package.nodes.handles.TakeHandle(str(store.folder), empty.id, 3)
        for node, inputs in (
            (takes.LongLiveLoadTake, {"name": empty.id}),
            (takes.LongLiveTakeFrames, {"take": given}),
            (takes.LongLiveBranchTake, {"take": replace(given, chunks=0)}),
        ):
            with pytest.raises(ValueError, match=words):
                node.execute(**inputs)


def branch(package, store, **inputs):
    take = package.nodes.handles.TakeHandle(str(store.folder), FIRST.id, 13)
    (branched,), said = package.nodes.takes.LongLiveBranchTake.execute(take, **inputs)
    return branched.chunks, said.splitlines()[0]


def test_branch(host, store):
    """Forbids a branch elsewhere than the report says, and graphs of before that are no longer valid."""
    with host.pack() as package:
        assert branch(package, store) == (3, "branched at 2.06 s (2 s requested): 3 chunks stay")
        assert branch(package, store, at="segment 2") == (6, "branched at 4.31 s: 6 chunks stay")
        assert branch(package, store, chunks=4)[0] == branch(package, store, at="0:12", chunks=4)[0] == 4
        with pytest.raises(ValueError, match="the take lasts"):
            branch(package, store, at="0:12")


def test_branch_is_checked_when_it_is_queued(host):
    """Forbids that an invalid place is reported only after the film before it."""
    with host.pack() as package:
        graph = package.nodes.validation.graph.QueuedGraph
        fault = package.nodes.takes._branch_error

        def check(**inputs):
            return fault(graph({"7": {"class_type": "LongLiveBranchTake", "inputs": inputs}}, [], {"7": inputs}), "7")

        assert [check(at=at) for at in ("12s", "segment 2", "16c", "16")] == [None] * 4
        assert check() is None and check(at=["3", 0]) is None
        assert "'half way' does not name a point in a take" in check(at="half way")
