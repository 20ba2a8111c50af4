"""The estimate of a run compared with the run: chunks, bytes, time; and the refusals by it."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from longlive_core.config import StreamConfig
from longlive_core.film.video import Encoding
from longlive_core.run import estimate as module
from longlive_core.run.estimate import NotEnoughDisk, chunks_to_make, estimate_film
from longlive_core.run.memory import MemoryPlan, Need, NotEnoughMemory
from longlive_core.run.pipeline import Pipeline
from longlive_core.run.render import film_run, render_film
from longlive_core.run.speed import SpeedBook, speed_key
from longlive_core.takes import Origin, TakeStore, VaeIdentity, plan_take
from longlive_core.timeline import parse
from longlive_core.words.quantities import duration_text

SIZE = (48, 32)
LATENTS = 16 * 3 * 4 * 6 * 4  # bytes of a chunk in float32
NEED = Need(weights=1000, cache=200, vae=30, passes=4, decoding=3, frames=12, advice="width and height")


@pytest.fixture
def store(tmp_path):
    return TakeStore(tmp_path / "takes")


def plan_of(text="0c a\n4c b", chunks=8):
    plan = parse(text).plan((12 * chunks - 3 * (1 + text.count("{cut}"))) / 16)
    assert plan.chunks == chunks
    return plan


def take_of(store, plan):
    return plan_take(
        store,
        "",
        plan,
        Origin("m", "t", "float32", StreamConfig(), SIZE, 0),
        Encoding(*SIZE),
        VaeIdentity("vae", "float32", 4),
    )


def fill(take, chunks, video=b""):
    """Store chunks of a take: their latents and, if given, their video."""
    for unit in list(take.manifest.units())[:chunks]:
        take.store.save_latents(unit.key, torch.zeros(1, 16, 3, 4, 6))
        if video:
            take.store.chunks.save_unit(unit, video)


def estimated(model, plan, tmp_path, **named):
    memory = MemoryPlan(NEED, named.pop("available", None), named.pop("main", 0))
    return estimate_film(model, plan, StreamConfig(), SIZE, memory, tmp_path / "film.mp4", **named)


def test_a_film_without_a_store_needs_its_own_space(tiny_model, tmp_path):
    """Forbids chunks that are kept beside the film and not counted, and times that were not measured."""
    plan = plan_of()
    found = estimated(tiny_model, plan, tmp_path)
    assert (found.made, found.encoded, found.latents, found.seconds, found.measured) == (
        8,
        8,
        8 * 16 * 3 * 4 * 6 * 4,
        None,
        False,
    )
    assert found.video == int(module.ASSUMED_VIDEO * 48 * 32 * plan.frames)
    ((folder, needed),) = [(space.folder, space.needed) for space in found.spaces]
    assert (folder, needed) == (tmp_path, found.latents + 3 * found.video)
    assert "not measured here yet" in found.describe() and "assumed" in found.describe()


def test_time_counts_the_chunks_to_be_made(tiny_model, tmp_path, store):
    """Forbids the time of the whole film where half of it is stored."""
    plan, book = plan_of(), SpeedBook(tmp_path / "cache")
    book.note(speed_key(tiny_model, StreamConfig(), SIZE), 100.0, 5000.0)
    take = take_of(store, plan)
    assert estimated(tiny_model, plan, tmp_path, book=book).seconds == 800
    fill(take, 3)
    found = estimated(tiny_model, plan, tmp_path, book=book, take=take)
    assert (found.made, found.encoded, found.seconds) == (5, 8, 500)
    text = found.describe()
    assert "5 of 8 to be rendered, 3 more to be decoded" in text
    assert "about 8 min for 5 chunks (100 s each, measured 20" in text and "last one measured" in text
    fill(take, 8, b"x" * 10)
    found = estimated(tiny_model, plan, tmp_path, book=book, take=take)
    assert (found.made, found.encoded, found.seconds, found.latents) == (0, 0, 0, 0)
    assert found.video == sum(path.stat().st_size for path in store.folder.glob("chunks/*/*.mp4"))
    assert "no chunk has to be rendered" in found.describe()


def test_shots_that_are_alike_are_made_once(tiny_model, tmp_path, store):
    """Forbids counting a shot twice whose chunks the first one leaves in the store."""
    take = take_of(store, plan_of("0c a\n3c a {cut}\n5c b {cut}"))
    assert chunks_to_make(take) == [0, 1, 2, 5, 6, 7]
    assert estimated(tiny_model, take.plan, tmp_path, take=take).encoded == 6
    fill(take, 1)
    assert chunks_to_make(take) == [1, 2, 5, 6, 7]


def test_two_disks_each_have_their_own_space(tiny_model, tmp_path, store, monkeypatch):
    """Forbids adding up files on different disks, and a full one that the other hides."""
    take, films = take_of(store, plan_of()), tmp_path / "films"
    monkeypatch.setattr(module, "_file_system", lambda folder: folder.name)
    free = {"takes": 10**9, "films": 10**9}
    monkeypatch.setattr(module, "free_disk", lambda folder: free[folder.name])
    found = estimate_film(
        tiny_model, take.plan, StreamConfig(), SIZE, MemoryPlan(NEED, None), films / "film.mp4", take=take
    )
    stored, film = found.spaces
    assert film.needed == found.video and stored.needed == found.latents + 3 * found.video
    found.check()
    for folder, needed in (("takes", stored.needed), ("films", film.needed)):
        monkeypatch.setitem(free, folder, needed - 1)
        found = estimate_film(
            tiny_model, take.plan, StreamConfig(), SIZE, MemoryPlan(NEED, None), films / "film.mp4", take=take
        )
        with pytest.raises(NotEnoughDisk, match=folder) as error:
            found.check()
        for words in ("free some space", "shorten the film", "another folder", module.gigabytes(needed)):
            assert words in str(error.value)
        monkeypatch.setitem(free, folder, None)  # unknown


def test_memory_is_refused_with_what_to_lower(tiny_model, tmp_path):
    """Forbids an estimate that shows a shortage and lets the run begin."""
    estimated(tiny_model, plan_of(), tmp_path, available=NEED.total).check()
    with pytest.raises(NotEnoughMemory, match="Lower width and height"):
        estimated(tiny_model, plan_of(), tmp_path, available=NEED.total - 1).check()


def test_a_limit_counts_what_must_stay(tiny_model, tmp_path, store, monkeypatch):
    """Forbids removing takes for a film that does not fit all the same, and a full disk where their going frees it."""
    other, take = take_of(store, plan_of("0c c")), take_of(store, plan_of())
    fill(other, 8), fill(take, 3)
    store.write_manifest(other.manifest)
    kept, held = store.size_of(take.manifest), store.size()
    assert 0 < kept < held
    store.limit = held
    found = estimated(tiny_model, take.plan, tmp_path, take=take)
    needed = found.limit.needed
    assert (found.limit.held, found.limit.kept) == (held, kept) and found.limit.to_remove == min(needed, held - kept)
    assert "of other takes will be removed" in found.describe()
    store.limit = kept + needed
    estimated(tiny_model, take.plan, tmp_path, take=take).check()
    store.limit = kept + needed - 1
    with pytest.raises(NotEnoughDisk, match="too small for this film.*Raise it .--takes-limit"):
        estimated(tiny_model, take.plan, tmp_path, take=take).check()
    monkeypatch.setattr(module, "free_disk", lambda folder: 0)
    store.limit = max(held, kept + needed)
    found = estimated(tiny_model, take.plan, tmp_path, take=take)
    assert found.spaces[0].free == found.limit.to_remove > 0


def test_main_memory_is_reported(tiny_model, tmp_path):
    """Forbids a shortage of main memory that the estimate knew of."""
    assert "and 5.0 GB of main memory" in estimated(tiny_model, plan_of(), tmp_path, main=5 * 10**9).describe()


def test_a_folder_that_is_not_there_yet_has_the_disk_of_the_one_above(tmp_path):
    """Forbids an unknown space for the folder that the render is about to make."""
    assert module.free_disk(tmp_path / "new" / "newer") is not None
    assert module.free_disk(Path("new")) is not None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (40, "40 s"),
        (99, "99 s"),
        (100, "2 min"),
        (3540, "59 min"),
        (12000, "3 h 20 min"),
    ],
)
def test_durations_for_people(seconds, words):
    """Forbids '12000.0 s'."""
    assert duration_text(seconds) == words


def latents_in(store):
    """Bytes of the latents in a store, without their files' headers."""
    total = 0
    for path in store.folder.glob("chunks/*/*.safetensors"):
        with safe_open(path, "pt") as file:
            total += file.get_tensor("latents").nbytes
    return total


@pytest.mark.slow
def test_the_pocket_models_films_are_as_large_as_estimated(tmp_path):
    """Forbids an estimate of the disk that has nothing to do with what is written."""
    pipeline, book = Pipeline.load(device="cpu"), SpeedBook(tmp_path / "cache")
    stream, size, sizes = pipeline.stream, pipeline.default_size, []
    for number, (text, chunks) in enumerate(
        (("A red ball bounces on a meadow.", 4), ("A blue star moves right in the night sky.", 7))
    ):
        plan = parse(text).plan((12 * chunks - 3) / 16)
        store, path = TakeStore(tmp_path / str(number)), tmp_path / f"{number}.mp4"
        run = film_run(pipeline, plan, path, stream=stream, size=size, seed=1, timeline=text, store=store, book=book)
        expected = run.estimate()
        render_film(run)
        assert latents_in(store) == expected.latents
        units = sum(unit.stat().st_size for unit in store.folder.glob("chunks/*/*.mp4"))
        sizes.append((expected, path.stat().st_size, latents_in(store) + units + 2 * path.stat().st_size))
    assert not sizes[0][0].measured and sizes[0][0].seconds is None
    expected, film, fullest = sizes[1]
    assert expected.measured and expected.seconds > 0
    assert 0.5 < expected.video / film < 2 and 0.5 < expected.spaces[0].needed / fullest < 2
