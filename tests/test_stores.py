"""Stores that earlier versions left (`tests/stores`): every take in them is read, and nothing is rendered again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from longlive_core import cli
from longlive_core.config import StreamConfig
from longlive_core.film.video import Encoding
from longlive_core.takes import Origin, StartChunks, TakeStore, extended, open_take, plan_take, store_start_latents
from longlive_core.timeline import parse, plan_text
from tests.conftest import LATENT_SIZE

from .studio import SIZE, VAE, frames_of

STORES = Path(__file__).parent / "stores"
GULL = "eine Möwe, 猫 🐈"
WHOLE, STOPPED, GIVEN, EXTENDED = "d2c4f20b0807", "091dc971926d", "918f19205d86", "bd535ef04505"
# By id: timeline, chunks, rendered, frames of those, frames per second as reported.
TAKES = {
    WHOLE: ("0c a\n2c b\n3c c {keep}", 4, 4, 45, 16),
    STOPPED: (f"0c a\n1c b {{seed=7}}\n2c {GULL} {{cut}}\n3c c {{blend=1c}}", 5, 3, 30, 16.0),
    GIVEN: ("0c a\n2c b", 3, 3, 33, 16),  # its first two chunks are given latents
    EXTENDED: ("0c a", 3, 3, 33, 16),  # two chunks of WHOLE and one more
}


@pytest.fixture
def store(tmp_path):
    """A copy of the store of format 1."""
    return TakeStore(shutil.copytree(STORES / "format_1", tmp_path / "format_1"))


@pytest.fixture
def old(studio, store):
    """A studio that continues in that store."""
    studio.store, studio.contexts[GULL] = store, studio.contexts["a"]
    return studio


def same_film(store: TakeStore, take: str):
    """The film of that take, planned by this version as the one of then planned it."""
    text, chunks, _, _, fps = TAKES[take]
    plan = parse(text).plan((12 * chunks - 3 * (1 + text.count("{cut}"))) / 16)
    origin = Origin("model", "text", "float32", StreamConfig(), SIZE, 3)
    given = StartChunks()
    if take == GIVEN:
        latents = torch.randn(1, 16, 6, *LATENT_SIZE, generator=torch.Generator().manual_seed(5))
        given = store_start_latents(store, latents, origin, chunks)
    elif take == EXTENDED:
        plan, given = extended(store, WHOLE, 2, parse(text, continues=True).plan(None, chunks=1), SIZE)
        text = plan_text(plan)
    return plan_take(store, text, plan, origin, Encoding(*SIZE, fps, crf=45), VAE, given)


def test_every_take_is_listed_and_shown(store, capsys):
    """Forbids takes of earlier versions that are called damaged or are not there."""
    assert {take.id for take in store.takes()} == set(TAKES)
    assert cli.main(["takes", "list", "--takes", str(store.folder)]) == 0
    listed = capsys.readouterr().out
    for take, (text, chunks, rendered, *_) in TAKES.items():
        assert take in listed and f"{rendered}/{chunks} chunks" in listed
        assert cli.main(["takes", "show", take, "--takes", str(store.folder)]) == 0
        assert text in capsys.readouterr().out


@pytest.mark.parametrize("take", TAKES)
def test_every_take_joins(store, tmp_path, take):
    """Forbids units of video that only the version that wrote them can read."""
    film = tmp_path / "film.mp4"
    assert cli.main(["takes", "join", take, "--takes", str(store.folder), "-o", str(film)]) == 0
    assert len(frames_of(film)) == TAKES[take][3]


@pytest.mark.parametrize("take", TAKES)
def test_the_same_film_is_that_take(store, take):
    """Forbids keys, unit names or ids that differ from those of earlier versions: every stored film would be lost."""
    found = same_film(store, take)
    assert found.id == take and not found.new
    assert found.manifest.shots == store.read_manifest(take).shots
    assert found.reused == TAKES[take][2]


@pytest.mark.parametrize("take", TAKES)
def test_every_take_is_resumed(old, take):
    """Forbids rendering or decoding what an earlier version stored."""
    film = same_film(old.store, take)
    old.store.write_manifest(film.manifest)
    _, chunks, rendered, _, _ = TAKES[take]
    steps, decoded = old.render(film)
    missing = list(range(rendered, chunks))
    assert sorted({chunk for chunk, _ in steps}) == missing and decoded == missing
    assert old.store.read_manifest(take).created <= old.store.read_manifest(take).used


@pytest.mark.parametrize("take", TAKES)
def test_every_take_is_extended(old, take):
    """Forbids a film that cannot continue after a take of an earlier version, or renders its beginning again."""
    rendered = TAKES[take][2]
    plan, given = extended(old.store, take, None, parse("0c c", continues=True).plan(None, chunks=1), SIZE)
    origin = same_film(old.store, take).origin
    film = open_take(old.store, plan_text(plan), plan, origin, Encoding(*SIZE, crf=45), VAE, given)
    assert film.reused == rendered
    steps, _ = old.render(film)
    assert {chunk for chunk, _ in steps} == {rendered}
