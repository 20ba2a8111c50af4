"""Every stored chunk is verified: a damaged, swapped or truncated one is set aside and rendered again, identical."""

import random
import shutil

import pytest
import torch
from safetensors.torch import load, save

from longlive_core.film.video import Encoding, encode_unit
from longlive_core.run.reports import repaired_line
from longlive_core.takes import Live, TakeError, extended, plan_take, store_start_latents
from longlive_core.takes.checksums import Damaged, UnitInfo, latents_file, read_latents, read_unit, unit_file
from longlive_core.takes.errors import ChunkDamaged
from longlive_core.takes.frame_ranges import decoded_frames, latents_of, stored_frames
from longlive_core.timeline import parse

from .studio import CHUNKS, SIZE, STORY, VAE, frames_of

KEY, SHAPE = "k" * 32, (3, 4, 6)
FACTS = UnitInfo(KEY, "unit", 9, (16, 16))


@pytest.fixture
def film(studio):
    """-> a rendered take, its latents, its frames."""
    take = studio.open()
    studio.render(take)
    return take, studio.latents(take), frames_of(take.film_path)


def video(frames=9, size=(16, 16)):
    pixels = torch.arange(frames * size[0] * size[1] * 3, dtype=torch.int64) % 251
    return encode_unit(pixels.to(torch.uint8).reshape(frames, size[1], size[0], 3).numpy(), Encoding(*size))


# --- files


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_files_prove_themselves(dtype):
    """Forbids a check that refuses what was written, or changes it."""
    latents = torch.randn(1, 16, *SHAPE).to(dtype)
    found, proved = read_latents(latents_file(KEY, latents), KEY, SHAPE)
    assert proved and found.dtype == dtype and torch.equal(found, latents)
    assert read_unit(unit_file(FACTS, video()), FACTS) is True


@pytest.mark.parametrize("kind", ["latents", "unit"])
def test_no_flipped_bit_is_used(kind):
    """Forbids one wrong bit, wherever it is, changing a film silently: but for a name that makes the file look
    like one of an earlier version, whose numbers are right."""
    numbers = torch.randn(1, 16, *SHAPE)
    data = latents_file(KEY, numbers) if kind == "latents" else unit_file(FACTS, video())
    moments = random.Random(0)
    for at in {0, 4, 8, len(data) - 1, len(data) - 17, *(moments.randrange(len(data)) for _ in range(400))}:
        wrong = bytearray(data)
        wrong[at] ^= 1 << moments.randrange(8)
        with pytest.raises(Damaged):
            read_latents(bytes(wrong), KEY, SHAPE) if kind == "latents" else read_unit(bytes(wrong), FACTS)


@pytest.mark.parametrize("kind", ["latents", "unit"])
def test_no_part_of_a_file_is_used(kind):
    """Forbids what a full disk or a torn write leaves: a beginning, zeros, something behind the end."""
    data = latents_file(KEY, torch.randn(1, 16, *SHAPE)) if kind == "latents" else unit_file(FACTS, video())
    wrong = [data[:size] for size in (0, 1, 7, 8, 100, len(data) // 2, len(data) - 16, len(data) - 1)]
    wrong += [bytes(len(data)), data[: len(data) // 2] + bytes(len(data) - len(data) // 2), data + b"\0", data + data]
    for content in wrong:
        with pytest.raises(Damaged):
            read_latents(content, KEY, SHAPE) if kind == "latents" else read_unit(content, FACTS)


def test_what_a_file_is_not():
    """Forbids latents and units of another chunk, of another length, size or encoding, and other tensors."""
    latents = torch.randn(1, 16, *SHAPE)
    for key, shape in (("o" * 32, SHAPE), (KEY, (1, 4, 6)), (KEY, (3, 6, 4))):
        with pytest.raises(Damaged):
            read_latents(latents_file(KEY, latents), key, shape)
    for tensors in (
        {},
        {"other": latents},
        {"latents": latents, "more": latents.clone()},
        {"latents": latents[0]},
        {"latents": latents.expand(2, -1, -1, -1, -1).contiguous()},
    ):
        with pytest.raises(Damaged):
            read_latents(save(tensors, {"key": KEY}), KEY, SHAPE)
    for change in ({"key": "o" * 32}, {"unit": "other"}, {"frames": 12}, {"size": (16, 32)}):
        with pytest.raises(Damaged):
            read_unit(unit_file(FACTS, video()), UnitInfo(**{**vars(FACTS), **change}))


def test_files_of_earlier_versions():
    """Forbids refusing what has no checksum yet, and using it for a chunk that it is not."""
    latents = torch.randn(1, 16, *SHAPE)
    old = save({"latents": latents}, {"key": KEY})
    found, proved = read_latents(old, KEY, SHAPE)
    assert not proved and torch.equal(found, latents)
    for wrong, key in ((old, "o" * 32), (save({"latents": latents[:, :, :1].contiguous()}, {"key": KEY}), KEY)):
        with pytest.raises(Damaged):
            read_latents(wrong, key, SHAPE)
    assert read_unit(video(), FACTS) is False
    for wrong in (video(12), video(size=(32, 16)), video()[:-1], video() + b"\0\0\0\x08free"):
        with pytest.raises(Damaged):
            read_unit(wrong, FACTS)


def test_an_older_pack_reads_new_files():
    """Forbids files that need this version: a user who returns to an older version keeps the films."""
    latents = torch.randn(1, 16, *SHAPE)
    assert torch.equal(load(latents_file(KEY, latents))["latents"], latents)


# --- takes


def flipped(path, at=-40):
    data = bytearray(path.read_bytes())
    data[at] ^= 16
    path.write_bytes(data)


def paths(take, chunk):
    key = take.manifest.keys[chunk]
    return take.store.latents_path(key), take.store.unit_path(key, take.manifest.unit)


def swapped(one, other):
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


DAMAGE = {
    "a bit of a unit": lambda take: flipped(paths(take, 4)[1]),
    "half a unit": lambda take: paths(take, 9)[1].write_bytes(paths(take, 9)[1].read_bytes()[:300]),
    "an empty unit": lambda take: paths(take, 0)[1].write_bytes(b""),
    "units swapped": lambda take: swapped(paths(take, 0)[1], paths(take, 3)[1]),
    "a unit is a folder": lambda take: (paths(take, 5)[1].unlink(), paths(take, 5)[1].mkdir()),
    "a unit that is gone": lambda take: paths(take, 6)[1].unlink(),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_unit_is_made_again(studio, film, kind):
    """Forbids a take that can never be finished again, and rendering what only has to be decoded."""
    take, latents, frames = film
    DAMAGE[kind](take)
    steps, decoded = studio.render(take, live=(live := Live(take.plan)))
    assert steps == [] and 1 <= len(decoded) <= 2
    assert all((a == b).all() for a, b in zip(frames_of(take.film_path), frames, strict=True))
    assert not any(live.progress.repaired.values())
    if kind not in ("a unit that is gone", "a unit is a folder"):
        assert sorted(live.progress.repaired) == decoded
        assert "damaged" in repaired_line(live.progress.repaired)
    assert studio.render(take) == ([], [])


@pytest.mark.parametrize("chunks", [[9], [8], [0], [3], [3, 4, 7], range(10)])
def test_damaged_latents_are_rendered_again(studio, film, chunks):
    """Forbids rendering the chunks after a flipped bit from it, and other numbers than the original ones."""
    take, latents, frames = film
    for chunk in chunks:
        flipped(paths(take, chunk)[0])
    longer = studio.open(STORY + "\n10c a", 14)
    steps, _ = studio.render(longer, live=(live := Live(longer.plan)))
    read = set(live.progress.repaired)
    assert read <= set(chunks) and (9 not in chunks or 9 in read)
    assert all(live.progress.repaired.values())
    shutil.rmtree(studio.store.folder / "chunks")
    studio.render(longer)
    again = studio.latents(longer)
    assert all(torch.equal(a, b) for a, b in zip(again, latents))  # noqa: B905 - the longer one continues
    assert {chunk for chunk, step in steps} >= read | {10, 11, 12, 13}


@pytest.mark.parametrize("chunks", [[9], [2, 9], [8, 9], range(10)])
def test_the_longer_film_is_that_of_a_whole_store(studio, film, chunks):
    """Forbids a repair that leaves other chunks after it, or a decoder that remembers what was damaged."""
    take, _, _ = film
    kept = studio.store.folder.with_name("kept")
    shutil.copytree(studio.store.folder, kept)
    longer = studio.open(STORY, 12)
    studio.render(longer)
    wanted, seen = studio.latents(longer), frames_of(longer.film_path)
    shutil.rmtree(studio.store.folder)
    shutil.move(kept, studio.store.folder)
    for chunk in chunks:
        flipped(paths(take, chunk)[0])
    longer = studio.open(STORY, 12)
    studio.render(longer)
    assert all(torch.equal(a, b) for a, b in zip(studio.latents(longer), wanted, strict=True))
    assert all((a == b).all() for a, b in zip(frames_of(longer.film_path), seen, strict=True))


def test_what_is_read_out_of_a_take_is_proved(studio, film):
    """Forbids frames and latents of another chunk in an upscaler, and an error that blames the model."""
    take, _, _ = film
    store, manifest = studio.store, take.manifest
    swapped(paths(take, 3)[0], paths(take, 4)[0])
    swapped(paths(take, 5)[1], paths(take, 6)[1])
    for read in (
        lambda: latents_of(store, manifest, CHUNKS, 40, 12),
        lambda: decoded_frames(store, manifest, CHUNKS, 50, 12, studio.decoder),
        lambda: stored_frames(store, manifest, CHUNKS, 60, 12),
    ):
        with pytest.raises(ChunkDamaged, match="set aside, and is rendered again when the take is resumed"):
            read()
    assert len(list(store.folder.glob("chunks/*/*.damaged"))) == 3
    studio.render(take)
    assert latents_of(store, manifest, CHUNKS, 40, 12) is not None


def test_a_film_is_joined_up_to_a_damaged_unit(studio, film, tmp_path):
    """Forbids a film with a piece of another one, and none at all where most of it is whole."""
    take, _, frames = film
    flipped(paths(take, 4)[1])
    found = []
    assert take.join(tmp_path / "film.mp4", damaged=found.append) == 9 + 3 * 12
    assert [(damage.key, damage.unit) for damage in found] == [(take.manifest.keys[4], take.manifest.unit)]
    flipped(paths(take, 2)[1])
    with pytest.raises(ChunkDamaged):
        take.join(tmp_path / "other.mp4")
    assert not (tmp_path / "other.mp4").exists()


def test_a_damaged_beginning_names_what_to_do(studio, film):
    """Forbids rendering with this run's settings what another run rendered."""
    take, _, _ = film
    plan, given = extended(studio.store, take.id, None, parse("0c c").plan(2.0), SIZE)
    origin = type(take.origin)(**{**vars(take.origin), "seed": 8})
    after = plan_take(studio.store, "", plan, origin, take.encoding, VAE, given)
    studio.store.write_manifest(after.manifest)
    flipped(paths(take, 9)[0])
    with pytest.raises(TakeError, match="start chunk 9 of this film was damaged or removed"):
        studio.render(after)
    studio.render(take)
    studio.render(after)


def test_a_picture_that_was_damaged_is_given_again(studio):
    """Forbids a beginning that is damaged forever, because a file of its name is there."""
    take = studio.open()
    latents = torch.randn(1, 16, 3, SIZE[1] // 8, SIZE[0] // 8)
    (key,) = store_start_latents(studio.store, latents, take.origin, 4).keys
    flipped(studio.store.latents_path(key))
    assert store_start_latents(studio.store, latents, take.origin, 4).keys == (key,)
    assert torch.equal(studio.store.load_latents(key), latents)


def test_files_of_earlier_versions_are_proved_when_they_are_read(studio, film):
    """Forbids takes that stay without checksums, or are rendered again for want of them."""
    take, latents, frames = film
    for chunk, numbers in enumerate(latents):
        of_latents, of_unit = paths(take, chunk)
        of_latents.write_bytes(save({"latents": numbers}, {"key": take.manifest.keys[chunk]}))
        with_proof = of_unit.read_bytes()
        of_unit.write_bytes(with_proof[: with_proof.rindex(b"uuid") - 4])
    assert studio.render(take) == ([], [])
    assert [
        read_unit(paths(take, chunk)[1].read_bytes(), unit) for chunk, unit in enumerate(take.manifest.units())
    ] == [True] * CHUNKS
    longer = studio.open(STORY, 12)
    studio.render(longer)
    data = paths(take, 9)[0].read_bytes()
    assert read_latents(data, take.manifest.keys[9], take.manifest.latent_shape)[1]


def test_a_damaged_file_that_cannot_be_set_aside_is_reported(studio, film, monkeypatch):
    """Forbids an endless loop, and a film of garbage, on a disk that is read-only."""
    take, _, _ = film
    flipped(paths(take, 4)[1])
    monkeypatch.setattr("longlive_core.takes.chunks.set_aside", lambda path: False)
    with pytest.raises(ChunkDamaged, match="once the folder can be written"):
        studio.render(take)


def test_a_disk_that_damages_everything_is_reported(studio, film, monkeypatch):
    """Forbids rendering forever what is damaged as soon as it is written."""
    take, _, _ = film
    flipped(paths(take, 9)[0])
    whole = studio.store.chunks.save_latents

    def failing(key, latents):
        whole(key, latents)
        flipped(studio.store.latents_path(key))

    monkeypatch.setattr(studio.store.chunks, "save_latents", failing)
    with pytest.raises(TakeError, match="damaged again after it was rendered anew"):
        studio.render(studio.open(STORY, 12))
