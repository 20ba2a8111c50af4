"""The limit of the takes in ComfyUI, and takes on disks that cannot be written; with stand-ins for ComfyUI."""

import json
from dataclasses import replace

import pytest

from longlive_core.takes import TakeStore

from ..disks import refusing_writes
from ..made_takes import manifest, place
from . import fakes
from .test_versions import CHUNKS, filming, new_host, parts  # noqa: F401 - fixtures

pytestmark = pytest.mark.slow


def run(film):
    return film.run(keep_partial=True)


@pytest.mark.parametrize("endless", [False, True])
def test_a_film_that_the_limit_ends_says_so(new_host, parts, endless):  # noqa: F811 - fixtures
    """Forbids a film that ends early without a report, as an error, or as if the user had pressed Finish."""
    with new_host.pack() as package:
        film = filming(package, parts)
        if endless:
            film.film_run.request = replace(film.film_run.request, endless=True)
            film.film_run.live = package.longlive_core.takes.Live(film.take.plan, endless=True)
        film.store.limit = 400_000 if endless else 150_000
        filmed = run(film)
        report = filmed.report
        assert report["ended"] == "no_room" and not filmed.as_requested
        assert "for the takes is reached" in report["no_room"] and "are this film's" in report["no_room"]
        of = "" if endless else f" of {CHUNKS} chunks"
        assert f"ended after {report['chunks']}{of or ' chunks'}: {report['no_room']}" in report["summary"]
        assert (report["chunks"] > CHUNKS) if endless else 1 < report["chunks"] < CHUNKS
        assert report["partial"] is not endless
        assert report["frames"] == 12 * report["chunks"] - 3 * (
            1
            + sum(
                segment["transition"] == "cut"
                for segment in report["segments"]
                if 0 < segment["start_chunk"] < report["chunks"]
            )
        )
        film = filming(package, parts)
        film.store.limit = None
        assert run(film).report["ended"] == "complete"


def test_a_limit_that_cannot_be_kept_is_reported_first(new_host, parts, monkeypatch):  # noqa: F811 - fixtures
    """Forbids loading a model for a film that has no place; the words name what is in the way."""
    with new_host.pack() as package:
        run(filming(package, parts))
        monkeypatch.setenv("LONGLIVE_TAKES_LIMIT", "5kB")
        with pytest.raises(ValueError, match="the limit of 5 kB for the takes is too small for this film"):
            filming(package, parts)


def test_what_was_removed_meanwhile_is_in_the_report(new_host, parts):  # noqa: F811 - fixtures
    """Forbids that only the log knows of it."""
    with new_host.pack() as package:
        film = filming(package, parts)
        chunk = package.nodes.progress.Watcher.chunk

        def removing(watcher, number, frames):
            if number == 1:
                film.store.manifest_path(film.take.id).unlink()
            chunk(watcher, number, frames)

        package.nodes.progress.Watcher.chunk = removing
        report = run(film).report
        assert report["ended"] == "complete" and film.store.has_manifest(report["take"])
        said = f"take {report['take']} was removed while it was rendered; it was written again"
        assert said in report["hints"] and f"hint: {said}" in report["summary"]


def test_takes_are_loaded_from_a_disk_that_cannot_be_written(tmp_path, monkeypatch):
    """Forbids nodes that need to write where they only read."""
    host = fakes.Host(fakes.NEW, tmp_path / "temp")
    store = TakeStore(f"{host.temp}_output/longlive")
    made = manifest(1, "0s A red ball bounces\n4s A blue ball bounces {cut}", 8, used=100.0)
    place(store, made)
    with host.pack() as package, refusing_writes(monkeypatch, store.folder):
        nodes = package.nodes.takes
        for name in ("newest", made.id):
            assert nodes.LongLiveLoadTake.validate_inputs(name=name) is True
            assert nodes.LongLiveLoadTake.fingerprint_inputs(name=name) == 100.0
            (handle,), _ = nodes.LongLiveLoadTake.execute(name)
            assert handle.id == made.id
        (branch,), _ = nodes.LongLiveBranchTake.execute(handle, at="4c")
        assert branch.chunks == 4 and branch.store().read_manifest(branch.id).id == handle.id
        (listed,) = json.loads(package.nodes.routes.live._all_takes())["takes"]
        assert listed["take"] == made.id
