"""The limit while a film is rendered, and files that another process removes during that: nothing is lost silently."""

import itertools
import shutil

import numpy as np
import pytest

from longlive_core.files import in_use
from longlive_core.film.video import FilmWriter
from longlive_core.takes import Live, TakeError, TakeStore, limit, render_take

from .studio import CHUNKS, Stop, Studio, frames_of, no_tags, observing, same
from .test_takes_live import Director, _alone

pytestmark = pytest.mark.slow


def peak_of(studio, monkeypatch):
    """Sizes of the store from now on, looked at before and after a file in it is finished."""
    seen = []

    def looking(finish):
        def finishing(*args):
            seen.append(studio.store.size())
            finish(*args)
            seen.append(studio.store.size())

        return finishing

    monkeypatch.setattr(in_use, "replace", looking(in_use.replace))
    monkeypatch.setattr(FilmWriter, "close", looking(FilmWriter.close))
    return seen


def render(studio, take, live, act=lambda chunk: None, say=lambda text: None):
    """-> the take it became."""
    return render_take(
        take,
        studio.model,
        studio.decoder,
        studio.contexts.__getitem__,
        no_tags,
        observing(chunk=lambda chunk, frames: act(chunk), report=say),
        live=live,
    )


@pytest.fixture
def others(studio):
    """Two takes of earlier days, the older first."""
    made = [studio.open(seed=seed, chunks=9) for seed in (11, 12)]
    for take, used in zip(made, (1.0, 2.0), strict=True):
        studio.render(take)
        take.manifest.used = used
        studio.store.write_manifest(take.manifest)
    return made


def test_a_film_without_end_obeys_the_limit(studio, others, monkeypatch):
    """Forbids a film that fills the disk, removing all takes, or the newest first, and an end without a reason."""
    said, went, store = [], [], studio.store
    store.limit = store.size() + 400_000
    seen = peak_of(studio, monkeypatch)

    def act(chunk):
        went.append([take.id for take in others if not store.take_folder(take.id).exists()])
        assert chunk < 200

    take = studio.open("0c a\n2c b", 4)
    live = Live(take.plan, endless=True)
    take = render(studio, take, live, act, said.append)
    done = live.progress.chunk
    assert max(seen) <= store.limit
    assert [sorted(gone) for gone, _ in itertools.groupby(went)] == [
        [],
        [others[0].id],
        sorted(other.id for other in others),
    ], went
    assert said == [
        f"removed take {other.id}, unused for longest: the limit is {said[0].rpartition(' is ')[2]}" for other in others
    ]
    assert not live.finishing and live.progress.no_room.endswith("are this film's. Raise it, or make room")
    assert len(take.manifest.keys) == done and len(frames_of(take.film_path)) == 12 * done - 3
    assert [found.id for found in store.takes()] == [take.id]


def test_the_film_that_a_limit_ended_is_that_of_its_length(studio):
    """Forbids a cut-off film that differs from one that was requested at that length."""
    studio.store.limit = 400_000
    take = studio.open("0c a\n2c b", 4)
    live = Live(take.plan, endless=True)
    ended = studio.take = render(studio, take, live)
    assert live.progress.no_room and 4 < live.progress.chunk < 100
    studio.store.limit = None
    latents, frames = _alone(studio, ended)
    assert same(studio.latents(ended), latents) and np.array_equal(frames_of(ended.film_path), frames)


def test_a_film_of_a_length_ends_early_and_can_continue(studio, monkeypatch):
    """Forbids more than the limit where the estimate was too low, and a film that is lost for it."""
    take = studio.open()
    studio.store.limit = 150_000
    seen = peak_of(studio, monkeypatch)
    live = Live(take.plan)
    studio.render(take, live=live)
    done = live.progress.chunk
    assert 1 < done < CHUNKS and live.progress.no_room and max(seen) <= studio.store.limit
    assert len(frames_of(take.film_path)) == 12 * done - 3 and not take.growing_path.exists()
    studio.store.limit = None
    steps, _ = studio.render(take)
    assert min(chunk for chunk, _ in steps) == done and len(frames_of(take.film_path)) == 12 * CHUNKS - 3


def test_a_prompt_that_prolongs_a_film_obeys_the_limit(studio):
    """Forbids a way around it: a prompt far ahead makes the plan longer."""
    studio.store.limit = 400_000
    take = studio.open("0c a\n2c b", 4)
    live = Live(take.plan, endless=True)
    director = Director(live, {3: lambda live: live.prompt("c", "900c")})
    studio.render(take, live=director)
    assert live.progress.no_room and live.progress.chunk < 100
    assert len(studio.take.manifest.keys) == live.progress.chunk


def test_what_is_in_the_way_is_said(studio, others):
    """Forbids an end whose reason the user cannot fix: which bytes are it?"""
    (studio.store.take_folder(others[1].id) / "take.json").write_text("{")
    studio.store.limit = studio.store.size() + 150_000
    live = Live(studio.open().plan)
    with studio.store.rendering(others[0].id):
        studio.render(studio.open(), live=live)
    assert "of takes that are being rendered and " in live.progress.no_room
    assert "of takes that cannot be read, and chunks that may be theirs cannot be removed" in live.progress.no_room
    assert all(studio.store.take_folder(other.id).is_dir() for other in others)


def test_the_store_is_not_counted_for_every_chunk(studio, monkeypatch):
    """Forbids a render that slows down with the size of the store."""
    counted, look = [], limit.make_room
    monkeypatch.setattr(limit, "make_room", lambda *args: counted.append(1) or look(*args))
    monkeypatch.setattr(limit, "LOOK_AGAIN", 5)
    studio.store.limit = 10**9
    take = studio.open("0c a", 4)
    live = Live(take.plan, endless=True)
    studio.render(take, live=Director(live, {10: lambda live: live.finish()}))
    assert len(counted) == 2  # before the second chunk, and five chunks later


def test_two_films_at_once_keep_to_one_limit(studio, monkeypatch):
    """Forbids that each of them counts on the space that the other has filled since."""
    store, live = studio.store, Live(studio.open("0c a", 4).plan, endless=True)
    store.limit = 500_000
    seen = peak_of(studio, monkeypatch)

    def act(chunk):  # what another process writes
        for number in range(2):
            store.chunks.latents_path(f"{chunk:04x}{number:028x}").parent.mkdir(exist_ok=True)
            store.chunks.latents_path(f"{chunk:04x}{number:028x}").write_bytes(b"x" * 4000)

    render(studio, studio.open("0c a", 4), live, act)
    assert live.progress.no_room and max(seen) <= store.limit


# --- removed in mid-render


def folder_gone(take):
    shutil.rmtree(take.store.take_folder(take.id))


def manifest_gone(take):
    take.store.manifest_path(take.id).unlink()


def chunks_gone(take):
    shutil.rmtree(take.store.chunks.folder)


def all_gone(take):
    shutil.rmtree(take.store.folder)


def latents_gone(take):
    take.store.latents_path(take.manifest.keys[0]).unlink()


def unit_gone(take):
    take.store.unit_path(take.manifest.keys[0], take.manifest.unit).unlink()


def film_gone(take):
    take.film_path.unlink(missing_ok=True)


def growing_gone(take):
    take.growing_path.unlink()


def lock_gone(take):
    (take.store.take_folder(take.id) / ".lock").unlink()


SHORT, SHOTS = ("0c a\n2c b {cut}", 4), [9, 21, 30, 42]  # frames of its first chunks

REMOVALS = [
    folder_gone,
    manifest_gone,
    chunks_gone,
    all_gone,
    latents_gone,
    unit_gone,
    film_gone,
    growing_gone,
    lock_gone,
]


@pytest.fixture(scope="module")
def whole(tiny_model, contexts, tiny_decoder, tmp_path_factory):
    """Return latents and frames of the story when nothing is removed."""
    studio = Studio(
        tiny_model, dict(zip("abc", contexts, strict=True)), tiny_decoder, TakeStore(tmp_path_factory.mktemp("whole"))
    )
    take = studio.open(*SHORT)
    studio.render(take)
    return studio.latents(take), frames_of(take.film_path)


@pytest.mark.parametrize("at", [1, 3])
@pytest.mark.parametrize("remove", REMOVALS, ids=lambda remove: remove.__name__)
def test_what_is_removed_while_it_is_rendered_is_made_again(studio, whole, remove, at):
    """Forbids a film that is rendered and then forgotten, one with a gap, and two renders of it at the same time."""
    take, busy = studio.open(*SHORT), []

    def act(chunk):
        if chunk == at:
            remove(take)
        elif chunk == at + 1:
            busy.append(TakeStore(studio.store.folder, create=False).is_being_rendered(take.id))
            assert np.array_equal(frames_of(take.growing_path), whole[1][: SHOTS[chunk - 1]])

    live = Live(take.plan)
    render(studio, take, live, act)
    assert [found.id for found in studio.store.takes()] == [take.id]
    assert same(studio.latents(take), whole[0]) and np.array_equal(frames_of(take.film_path), whole[1])
    assert busy == [True] * (at < 3) and not take.growing_path.exists()
    notes, repaired = live.progress.notes, live.progress.repaired
    listed = remove in (folder_gone, manifest_gone, all_gone)
    assert notes == [f"take {take.id} was removed while it was rendered; it was written again"] * listed
    lost = {latents_gone: {0: True}, unit_gone: {0: False}}.get(remove)
    if remove in (chunks_gone, all_gone):
        assert set(repaired) >= set(range(at))
    else:
        assert repaired == (lost or {})
    assert studio.render(studio.open(*SHORT)) == ([], [])


@pytest.mark.parametrize("remove", [folder_gone, manifest_gone])
def test_what_is_removed_before_it_stops_is_kept(studio, whole, remove):
    """Forbids losing the chunks so far when a render ends early after its manifest went."""
    take = studio.open(*SHORT)

    def act(chunk):
        if chunk == 2:
            remove(take)
            raise Stop

    with pytest.raises(Stop):
        render(studio, take, Live(take.plan), act)
    assert [found.id for found in studio.store.takes()] == [take.id]
    assert np.array_equal(frames_of(take.film_path), whole[1][: SHOTS[2]])


def test_a_steered_film_is_listed_again_too(studio):
    """Forbids that only the take survives that the render began with."""
    take = studio.open()
    live = Live(take.plan)

    def act(chunk):
        if chunk == 2:
            live.prompt("c", "5c")
        if chunk == 6:
            shutil.rmtree(studio.store.takes_folder)

    made = render(studio, take, live, act)
    assert made.id != take.id and [found.id for found in studio.store.takes()] == [made.id]
    assert len(frames_of(made.film_path)) == 12 * CHUNKS - 3 and not take.growing_path.exists()
    assert len(live.progress.notes) == 2


def test_removing_what_is_rendered_is_refused(studio):
    """Forbids that `takes remove` takes the chunks from under a render."""
    take, refused = studio.open(*SHORT), []

    def act(chunk):
        with pytest.raises(TakeError, match="is being rendered by another process; wait for it"):
            TakeStore(studio.store.folder, create=False).remove(take.id)
        refused.append(chunk)

    render(studio, take, Live(take.plan), act)
    assert len(refused) == 4


def test_the_beginning_of_another_take_is_not_made_up(studio):
    """Forbids rendering a chunk that came from a picture or another take, after another process removed it."""
    take = studio.open()
    studio.render(take)
    take.manifest.given = 2
    studio.store.latents_path(take.manifest.keys[1]).unlink()
    with pytest.raises(TakeError, match="start chunk 1 of this film was damaged or removed"):
        studio.render(take)
