"""Load Take and Branch Take in stand-ins for ComfyUI, with takes that nobody rendered."""

import pytest

from longlive_core.takes import TakeStore

from ..made_takes import manifest, place
from . import fakes

pytestmark = pytest.mark.slow

STORY = "0s A red ball bounces\n4s A blue ball bounces {cut}"


@pytest.fixture
def host(tmp_path):
    return fakes.Host(fakes.NEW, tmp_path / "temp")


@pytest.fixture
def store(host):
    """Two takes, the second one newer and half rendered, and a damaged one."""
    made = TakeStore(f"{host.temp}_output/longlive")
    place(made, manifest(1, STORY, 8, used=100.0))
    place(made, manifest(2, "A star", 4, used=200.0), 3)
    made.take_folder("0" * 11 + "3").mkdir()
    (made.take_folder("0" * 11 + "3") / "take.json").write_text("{")
    return made


def choices(package) -> list[str]:
    (widget,) = package.nodes.takes.LongLiveLoadTake.define_schema().given["inputs"]
    return widget.given["options"]


def test_choices(host, store):
    """Forbids a list that is built once, stops at a damaged take, or has the oldest on top."""
    with host.pack() as package:
        newest, second, first, damaged = choices(package)
        assert newest == "newest" and damaged == "cannot be read [000000000003]"
        assert second.endswith(" · 2.1 of 4.3 s · 128x80 · A star [000000000002]")
        assert " · 8.6 s · " in first
        place(store, manifest(4, "A late one", 4, used=300.0))
        assert choices(package)[1].endswith("A late one [000000000004]")
        for key in manifest(2, "A star", 4).keys[3:]:
            store.unit_path(key, "x").write_bytes(b"")
            (store.folder / "chunks" / key[:2] / f"{key}.safetensors").write_bytes(b"")
        assert any(" · 4.3 s · 128x80 · A star [" in choice for choice in choices(package))


def test_no_takes_yet(host):
    """Forbids a node that is missing from a new installation."""
    with host.pack() as package:
        assert choices(package) == ["newest"]


@pytest.mark.parametrize("name", [None, "newest", "000000000001", "2026-11-28 14:02 · 12.8 s · words [000000000001]",
                                  "000000000001 A red ball", "odd [words] [000000000001]"])  # fmt: skip
def test_what_names_a_take(host, store, name):
    """Forbids graphs that hold only while the list reads as it did, and programs that have to read it."""
    with host.pack() as package:
        node = package.nodes.takes.LongLiveLoadTake
        assert node.validate_inputs(name=name) is True
        if name not in (None, "newest"):
            (handle,), said = node.execute(name)
            assert (handle.id, handle.chunks) == ("000000000001", len(manifest(1, STORY, 8).keys))
            assert "longlive" not in said and "/" not in said


@pytest.mark.parametrize(("name", "words"), [
    ("000000000009", "there is no take 000000000009 here: press R"), ("a red ball", "'a red ball' names no take"),
    ("cannot be read [000000000003]", "is damaged"), ("", "names no take"),
    (5, "5 names no take"), ("../../etc [x]", "names no take"),
])  # fmt: skip
def test_what_names_none_is_told_when_queued(host, store, name, words):
    """Forbids a run that fails in its middle over a name."""
    with host.pack() as package:
        assert words in package.nodes.takes.LongLiveLoadTake.validate_inputs(name=name)


def branch(package, store, **inputs):
    take = package.nodes.handles.TakeHandle(str(store.folder), "000000000001", 13)
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
    """Forbids a place that is none being found out after the film before it."""
    with host.pack() as package:
        graph = package.nodes.prompt_graph.Graph
        fault = package.nodes.takes._branch_fault

        def check(**inputs):
            return fault(graph({"7": {"class_type": "LongLiveBranchTake", "inputs": inputs}}, [], {"7": inputs}), "7")

        assert [check(at=at) for at in ("12s", "segment 2", "16c", "16")] == [None] * 4
        assert check() is None and check(at=["3", 0]) is None
        assert "'half way' is no place in a take" in check(at="half way")
