"""A player that still shows a film does not make an error of a finished one (Windows), and leaves nothing behind."""

import logging
import os

import numpy as np
import pytest

from longlive_core.takes import Live, TakeError, TakeStore
from longlive_core.takes.removal import sweep

from .holding import holding
from .studio import Stop, frames_of

pytestmark = pytest.mark.slow


@pytest.fixture
def film(studio):
    """Return the frames of the film when no program holds a file open."""
    take = studio.open()
    studio.render(take)
    frames = frames_of(take.film_path)
    studio.store.remove(take.id)
    return frames


def files(take):
    """Names in a take's folder, but for the lock's and the manifest's."""
    return sorted(set(os.listdir(take.store.take_folder(take.id))) - {".lock", "take.json"})


def test_a_growing_film_that_is_held_stays_until_the_next_render(studio, film, monkeypatch, caplog):
    """Forbids a finished film that ends in an error, a leftover that is not reported, and one that is never removed."""
    take = studio.open()
    with holding(monkeypatch, take.growing_path):
        studio.render(take)
    assert np.array_equal(frames_of(take.film_path), film)
    assert files(take) == ["film.mp4", "growing.mp4"]
    (told,) = caplog.records
    assert told.levelno == logging.WARNING and "growing.mp4' is in use" in told.getMessage()
    assert studio.render(take) == ([], [])
    assert files(take) == ["film.mp4"]


def test_the_next_render_does_not_wait_for_the_player(studio, film, monkeypatch):
    """Forbids a render that cannot begin while a player holds the growing film of the one before."""
    take = studio.open()
    with holding(monkeypatch, take.growing_path):
        with pytest.raises(Stop):
            studio.render(take, stop_at=30)
        begun, again = take.growing_path.read_bytes(), studio.open()
        studio.render(again)
    assert again.growing_name == "growing.1.mp4"
    assert take.growing_path.read_bytes() == begun
    assert np.array_equal(frames_of(take.film_path), film)
    assert files(take) == ["film.mp4", "growing.mp4"]


def test_a_film_that_is_held_gets_its_name_later(studio, film, monkeypatch, caplog):
    """Forbids an error for a film that is finished, the loss of it or of the old one, and copies that pile up."""
    take = studio.open()
    with pytest.raises(Stop):
        studio.render(take, stop_at=30)
    begun = frames_of(take.film_path)
    with holding(monkeypatch, take.film_path):
        studio.render(take)
        studio.render(take)
        assert len(frames_of(take.film_path)) == len(begun) < len(film)
        assert files(take) == ["film.1.mp4", "film.mp4"]
        assert np.array_equal(frames_of(take.film_path.with_name("film.1.mp4")), film)
    assert "the finished film is" in caplog.text
    studio.render(take)
    assert files(take) == ["film.mp4"] and np.array_equal(frames_of(take.film_path), film)


def test_a_changed_film_leaves_its_first_take_to_the_player(studio, monkeypatch, caplog):
    """Forbids an error when the take that a film was begun as cannot be removed under the live panel's player."""
    take = studio.open()
    live = Live(take.plan)
    live.prompt("c", at="4c")
    with holding(monkeypatch, take.growing_path):
        studio.render(take, live=live)
    assert studio.take.id != take.id and studio.take.film_path.is_file()
    assert f"take {take.id}, which became {studio.take.id}, stays" in caplog.text
    assert files(take)[-1] == "growing.mp4"
    studio.store.remove(take.id)
    assert not studio.store.take_folder(take.id).exists()


def test_removing_what_is_played_is_refused_whole(studio, monkeypatch):
    """Forbids half a take, and a render that fails because an old take cannot make room."""
    old, new = studio.open(), studio.open(seed=4)
    for take, used in ((old, 1.0), (new, 2.0)):
        studio.render(take)
        take.manifest.used = used
        studio.store.write_manifest(take.manifest)
    before = sorted(studio.store.folder.rglob("*"))
    limited = TakeStore(studio.store.folder, limit=studio.store.size())
    with holding(monkeypatch, old.film_path):
        with pytest.raises(TakeError, match="cannot be removed .in use.: close what shows its film"):
            studio.store.remove(old.id)
        assert limited.make_room(1, keep=new.id) == []
    assert sorted(studio.store.folder.rglob("*")) == before
    assert limited.make_room(1, keep=new.id) == [old.id]


def test_leftovers_go_when_other_takes_are_removed(studio, film, monkeypatch):
    """Forbids leftovers that only a new render of their take removes, and the loss of a film that a kill cut off."""
    held, cut, busy, gone = studio.open(), *(studio.open(seed=seed, chunks=9) for seed in (4, 5, 6))
    with pytest.raises(Stop):
        studio.render(held, stop_at=30)
    with holding(monkeypatch, held.growing_path, held.film_path):
        studio.render(held)
    assert files(held) == ["film.1.mp4", "film.mp4", "growing.mp4"]
    for take, seconds in ((cut, 10), (busy, -10)):
        studio.render(take)
        take.growing_path.write_bytes(b"newer, or older, than the film")
        written = take.film_path.stat().st_mtime + seconds
        os.utime(take.growing_path, (written, written))
    rest = studio.store.take_folder(f"{held.id}.00000000.removed")
    rest.mkdir()
    (rest / "film.mp4").write_bytes(b"held when its take was removed")
    with studio.store.rendering(busy.id):
        studio.store.remove(gone.id)
    assert files(held) == ["film.mp4"] and np.array_equal(frames_of(held.film_path), film)
    assert files(cut) == files(busy) == ["film.mp4", "growing.mp4"] and not rest.exists()
    sweep(studio.store)
    assert files(cut) == ["film.mp4", "growing.mp4"] and files(busy) == ["film.mp4"]


def test_a_chunk_that_another_process_put_there_is_kept(studio, monkeypatch):
    """Forbids an error for a chunk that is there: two processes that make the same one meet in its file."""
    take = studio.open()
    key, store = take.manifest.keys[0], studio.store
    studio.render(take)
    before = store.load_latents(key)
    with holding(monkeypatch, store.latents_path(key)):
        store.save_latents(key, before)
    manifest = store.take_folder(take.id) / "take.json"
    with holding(monkeypatch, manifest), pytest.raises(TakeError, match="in use.; close what uses it"):
        store.write_manifest(take.manifest)
    assert not list(store.folder.rglob("*.tmp"))
