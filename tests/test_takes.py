"""Takes: nothing is lost, nothing is rendered twice, and reused chunks equal those that would be rendered."""

import json
import os

import numpy as np
import pytest
import torch

from longlive_core.config import StreamConfig
from longlive_core.takes import TakeError, TakeStore, render_take

from .studio import CHUNKS, STORY, Stop, Studio, complete, frames_of, no_tags, observing, same

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def uninterrupted(tiny_model, contexts, tiny_decoder, tmp_path_factory):
    """Latents and film frames of the story, rendered without interruption."""
    studio = Studio(
        tiny_model, dict(zip("abc", contexts, strict=True)), tiny_decoder, TakeStore(tmp_path_factory.mktemp("whole"))
    )
    take = studio.open()
    steps, _ = studio.render(take)
    return studio.latents(take), frames_of(take.film_path), len(steps)


@pytest.mark.parametrize("stop_at", [0, 3, 5, 7, 11, 24, 33, 40, 47])
def test_a_stopped_render_continues_as_if_nothing_had_happened(studio, uninterrupted, stop_at):
    """Forbids another film after Cancel, wherever it came, and doing again what was done."""
    latents, frames, passes = uninterrupted
    with pytest.raises(Stop):
        studio.render(studio.open(), stop_at)
    partial = studio.open()
    done = partial.reused
    assert done == len(studio.latents(partial)) and stop_at // 6 <= done <= stop_at // 5
    if done:
        assert np.array_equal(frames_of(partial.film_path), frames[: 12 * done - 3])
    steps, _ = studio.render(partial)
    assert same(studio.latents(partial), latents)
    assert np.array_equal(frames_of(partial.film_path), frames)
    assert min(chunk for chunk, _ in steps) == done
    assert studio.render(studio.open()) == ([], [])


def test_a_film_plays_while_it_is_rendered(studio, uninterrupted):
    """Forbids a file that no player opens until the end; the newest chunk may wait for the next."""
    take, seen = studio.open(), []
    render_take(
        take,
        studio.model,
        studio.decoder,
        studio.contexts.__getitem__,
        no_tags,
        observing(chunk=lambda chunk, frames: seen.append(len(frames_of(take.growing_path)) if chunk else 0)),
    )
    assert seen == [0, *(12 * chunk - 3 for chunk in range(1, CHUNKS))]
    assert take.film_path.exists() and not take.growing_path.exists()


@pytest.mark.parametrize(
    ("text", "chunks", "reused"),
    [
        (STORY, 12, 10),  # longer
        (STORY, 8, None),  # shorter: the segment at its end does not fit
        (STORY.replace("8c b", "8c a"), 10, 8),  # the last prompt
        (STORY.replace("8c b", "8c b {keep}"), 10, 8),  # its transition
        (STORY.replace("2c b", "3c b"), 10, 2),  # a time
        (STORY.replace("0c a", "0c b"), 10, 0),  # the first prompt
    ],
)
def test_an_edit_renders_what_follows_it(studio, text, chunks, reused):
    """Forbids one key for everything, and reusing what a change does concern."""
    studio.render(studio.open())
    if reused is None:
        text, reused = STORY.rpartition("\n")[0], 8
    take = studio.open(text, chunks)
    assert take.reused == reused
    steps, _ = studio.render(take)
    assert {chunk for chunk, _ in steps} == set(range(reused, chunks))


def test_shots_count_alone(studio):
    """Forbids rendering shot 2 again because shot 1 was edited; a shot is the film one would get alone."""
    text = "0c a\n3c b\n5c c {cut}\n7c a"
    studio.render(studio.open(text))
    edited = studio.open(text.replace("3c b", "3c c"))
    assert edited.reused == 3 + 5
    steps, _ = studio.render(edited)
    assert {chunk for chunk, _ in steps} == {3, 4}
    alone = studio.open("0c c\n2c a", 5)
    assert alone.reused == 5


@pytest.mark.parametrize("change", [{"seed": 4}, {"stream": StreamConfig(window=9)}])
def test_another_run_reuses_nothing(studio, change):
    """Forbids mixing films of two seeds or settings."""
    studio.render(studio.open())
    assert studio.open(**change).reused == 0


def test_other_encoder_settings_encode_again_without_rendering(studio, uninterrupted):
    """Forbids rendering for a change that the model does not see."""
    studio.render(studio.open())
    take = studio.open(crf=40)
    assert complete(studio.open()) and not complete(take)
    steps, decoded = studio.render(take)
    assert steps == [] and decoded == list(range(CHUNKS))
    assert take.film_path.stat().st_size < studio.open().film_path.stat().st_size
    assert len(frames_of(take.film_path)) == 12 * CHUNKS - 3


def test_a_lost_unit_is_decoded_again_as_it_was(studio):
    """Forbids a decoder that starts cold in the middle of a shot: its first frames would flicker."""
    take = studio.open("0c a\n18c b", 20)
    studio.render(take)
    for chunk in (5, 17, 19):
        path = studio.store.unit_path(take.manifest.keys[chunk], take.manifest.unit)
        before = path.read_bytes()
        path.unlink()
        assert studio.render(take) == ([], [chunk])
        assert path.read_bytes() == before, chunk


def test_equal_chunks_lie_there_once_and_stay_while_they_are_used(studio):
    """Forbids a second copy of a shared beginning, and removing it with one of its takes."""
    studio.render(studio.open())
    other = studio.open(STORY.replace("8c b", "8c a"))
    studio.render(other)
    assert len(list(studio.store.folder.glob("chunks/*/*.safetensors"))) == 12
    first = studio.open().manifest.id
    size = studio.store.size()
    freed = studio.store.remove(first)
    assert freed > 0 and studio.store.size() == size - freed
    assert len(studio.latents(other)) == CHUNKS
    assert studio.render(other) == ([], [])
    studio.store.remove(other.manifest.id)
    assert not list(studio.store.folder.glob("chunks/*/*"))


def test_the_takes_unused_for_longest_make_room(studio):
    """Forbids a store that fills the disk, and one that throws away what is being rendered."""
    old, new = studio.open(), studio.open(seed=4)
    for take, used in ((old, 1.0), (new, 2.0)):
        studio.render(take)
        take.manifest.used = used
        studio.store.write_manifest(take.manifest)
    limited = TakeStore(studio.store.folder, limit=studio.store.size())
    assert limited.make_room(0, keep=new.manifest.id) == []
    with studio.store.rendering(old.manifest.id):
        assert limited.make_room(1, keep=new.manifest.id) == []
    assert limited.make_room(1, keep=new.manifest.id) == [old.manifest.id]
    assert limited.make_room(10**9, keep=new.manifest.id) == []
    assert len(studio.latents(new)) == CHUNKS and studio.open().reused == 0


def test_two_renders_of_one_take_do_not_meet(studio):
    """Forbids two writers in one film, and removing a take under a render."""
    take = studio.open()
    with TakeStore(studio.store.folder).rendering(take.manifest.id):
        with pytest.raises(TakeError, match="another process"):
            studio.render(take)
        with pytest.raises(TakeError, match="another process"):
            studio.store.remove(take.manifest.id)
    studio.render(take)


def test_a_full_disk_keeps_what_was_made(studio, uninterrupted, monkeypatch):
    """Forbids losing a film to the chunk that did not fit."""
    take, replace = studio.open(), os.replace
    full = take.manifest.keys[4]

    def refuse(source, target):
        if full in str(target):
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(TakeError, match=r"No space left on device.*kept"):
            studio.render(take)
    assert take.reused == 4 and not list(studio.store.folder.rglob("*.tmp"))
    assert np.array_equal(frames_of(take.film_path), uninterrupted[1][: 12 * 4 - 3])
    studio.render(take)
    assert np.array_equal(frames_of(take.film_path), uninterrupted[1])


def test_a_disk_without_any_space_tells_what_did_not_fit(studio, uninterrupted, monkeypatch):
    """Forbids the error of the film that cannot be written either, and no film at all: the growing one stays."""
    take, replace = studio.open(), os.replace

    def refuse(*where):
        if len(where) < 2 or take.manifest.keys[4] in str(where[1]):
            raise OSError(28, "No space left on device")
        replace(*where)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        patch.setattr("longlive_core.takes.take.FilmWriter.add", lambda film, unit: refuse(unit))
        with pytest.raises(TakeError, match=r"safetensors' \(No space left on device\); free some space"):
            studio.render(take)
    seen = frames_of(take.growing_path)
    assert len(seen) >= 12 * 3 - 3 and np.array_equal(seen, uninterrupted[1][: len(seen)])
    studio.render(take)
    assert np.array_equal(frames_of(take.film_path), uninterrupted[1]) and not take.growing_path.exists()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text[:40], "is damaged"),
        (lambda text: "[]", "it has no format"),
        (
            lambda text: text.replace('"format": 2', '"format": 3'),
            "format 3, this version reads 1 to 2; update the pack",
        ),
        (lambda text: json.dumps({**json.loads(text), "extra": 1}), "extra.*is not a field.*update the pack"),
        (lambda text: json.dumps({**json.loads(text), "id": "0" * 12}), "its id is not that of its chunks"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused_with_the_reason(studio, damage, words):
    """Forbids guessing, and removing chunks that an unreadable take may need."""
    take, other = studio.open(chunks=9), studio.open(seed=4, chunks=9)
    studio.render(take)
    path = studio.store.take_folder(take.manifest.id) / "take.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(TakeError, match=words):
        studio.store.read_manifest(take.manifest.id)
    assert sorted(type(entry).__name__ for entry in studio.store.takes()) == ["Manifest", "TakeError"]
    studio.store.remove(other.manifest.id)
    assert len(studio.latents(take)) == 9


@pytest.mark.parametrize("files", [[], [".lock"], [".lock", "take.json.0123abcd.tmp"]])
def test_a_take_that_was_never_begun_is_none(studio, files):
    """Forbids that a crash before the first manifest leaves an error in the list forever, and chunks that stay with
    it: chunks that no take names are not removed while a take cannot be read."""
    take = studio.open(chunks=9)
    folder = studio.store.take_folder("0123456789ab")
    folder.mkdir()
    for name in files:
        (folder / name).touch()
    assert [entry.id for entry in studio.store.takes()] == [take.id]
    studio.store.save_latents("f" * 32, torch.zeros(1, 16, 3, 4, 6))
    chunk = studio.store.latents_path("f" * 32)
    os.utime(chunk, (0, 0))
    studio.store.remove(take.id)
    assert not chunk.exists()


def test_a_take_whose_manifest_is_gone_is_reported(studio):
    """Forbids that a stored film is not listed at all."""
    take = studio.open(chunks=1, text="0c a")
    studio.render(take)
    (studio.store.take_folder(take.id) / "take.json").unlink()
    (listed,) = studio.store.takes()
    assert isinstance(listed, TakeError) and listed.take == take.id


@pytest.mark.parametrize("name", ["", "..", "a/b", "ABCDEFABCDEF", "0" * 11, "0" * 12])
def test_names_that_are_no_takes(studio, name):
    """Forbids opening files by names that a client invented."""
    with pytest.raises(TakeError, match="takes list"):
        studio.store.read_manifest(name)
    with pytest.raises(TakeError, match="there is no take"):
        studio.store.remove(name)


def test_a_folder_that_takes_no_files(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(TakeError, match="cannot be kept in .*choose a folder"):
        TakeStore(tmp_path / "file")
