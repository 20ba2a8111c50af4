"""Links, pipes and folders that another user put in the place of our files: nothing is written through them."""

import os
import stat

import numpy as np
import pytest
import torch
from PIL import Image

from longlive_core.files import in_use, nofollow
from longlive_core.film.contact_sheet import contact_sheet
from longlive_core.film.subtitles import Subtitle
from longlive_core.film.video import Encoding, FilmWriter, Joiner, check_writable, encode_unit, part_path
from longlive_core.run import replay
from longlive_core.takes import Manifest, TakeError, TakeStore
from longlive_core.takes.disk import write_whole

from .made_takes import manifest, place
from .studio import frames_of
from .test_fidelity import FOLDER

SECRET = b"somebody's letters"
PICTURE = np.zeros((1, 16, 32, 3), np.uint8)


class Plant:
    """Something in the place of a file, and what must not have happened to where it leads."""

    def __init__(self, kind, tmp_path):
        self.kind, self.victim, self._pipes = kind, tmp_path / "victim", []
        self.victim.mkdir()
        (self.victim / "letter.txt").write_bytes(SECRET)

    def put(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.kind == "link":
            path.symlink_to(self.victim / "letter.txt")
        elif self.kind == "link to nothing":
            path.symlink_to(self.victim / "new.txt")
        elif self.kind == "second name":
            os.link(self.victim / "letter.txt", path)
        else:
            os.mkfifo(path)
            self._pipes.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK))  # else what writes to it would wait
        return path

    def check(self):
        assert os.listdir(self.victim) == ["letter.txt"]
        assert (self.victim / "letter.txt").read_bytes() == SECRET
        assert [os.read(pipe, 1) for pipe in self._pipes] == [b""] * len(self._pipes)

    def close(self):
        for pipe in self._pipes:
            os.close(pipe)


@pytest.fixture(params=["link", "link to nothing", "second name", "pipe"])
def plant(request, tmp_path):
    if request.param == "pipe" and not hasattr(os, "mkfifo"):
        pytest.skip("there are no such pipes here")
    try:
        planting = Plant(request.param, tmp_path)
        planting.put(tmp_path / "try")
    except OSError as error:
        pytest.skip(f"none can be made here ({error})")
    yield planting
    planting.check()
    planting.close()


def is_ours(path):
    """Whether a file is one of its own."""
    found = os.lstat(path)
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def write_film(path, **settings):
    with FilmWriter(path, 32, 16, **settings) as film:
        film.write(PICTURE)


def test_a_new_file(plant, tmp_path):
    """Forbids opening such a thing."""
    with nofollow.create(plant.put(tmp_path / "file")) as file:
        file.write(b"ours")
    assert is_ours(tmp_path / "file") and (tmp_path / "file").read_bytes() == b"ours"


@pytest.mark.parametrize("subtitles", [(), (Subtitle(0, "a panda"),)], ids=["plain", "subtitles"])
@pytest.mark.parametrize("name", ["film.mp4", "film.mp4.part"])
def test_a_film(plant, tmp_path, name, subtitles):
    """Forbids a film that is written through a link, and a render that blocks on a pipe."""
    path = tmp_path / "out" / "film.mp4"
    plant.put(path.with_name(name))
    check_writable(path)
    write_film(path, subtitles=subtitles)
    assert is_ours(path) and len(frames_of(path)) == 1 and os.listdir(path.parent) == ["film.mp4"]


def test_a_film_that_is_dropped(plant, tmp_path):
    """Forbids removing what a link leads to."""
    film = FilmWriter(tmp_path / "film.mp4", 32, 16)
    film.write(PICTURE)
    film.abort()
    plant.put(part_path(tmp_path / "film.mp4"))
    with pytest.raises(ValueError, match="no frame was written"):
        FilmWriter(tmp_path / "film.mp4", 32, 16).close()


def test_a_growing_film(plant, tmp_path):
    """Forbids a link that is followed chunk by chunk; what plays while it grows is the new file."""
    path = plant.put(tmp_path / "growing.mp4")
    joiner = Joiner(path, growing=True)
    for _ in range(3):
        joiner.add(encode_unit(PICTURE, Encoding(32, 16)))
    assert is_ours(path) and len(frames_of(path)) == 2
    joiner.close()
    assert len(frames_of(path)) == 3


def test_a_contact_sheet_and_a_recording(plant, tmp_path, monkeypatch):
    """Forbids the same for other files whose names are known beforehand."""
    write_film(tmp_path / "film.mp4")
    plant.put(tmp_path / "sheet.png.part")
    contact_sheet(tmp_path / "film.mp4", tmp_path / "sheet.png")
    Image.open(tmp_path / "sheet.png").load()
    plant.put(tmp_path / "out.safetensors.part")
    monkeypatch.setattr(replay, "run", lambda tensors, config: {})
    replay.replay(FOLDER / "single_prompt.safetensors", tmp_path / "out.safetensors")
    assert is_ours(tmp_path / "sheet.png") and is_ours(tmp_path / "out.safetensors")


def test_files_of_a_store(plant, tmp_path):
    """Forbids a manifest or a chunk that is written to where a link leads."""
    store = TakeStore(tmp_path / "store")
    take = manifest(1, "0s a", 2)
    plant.put(store.take_folder(take.id) / "take.json")
    for path in (store.latents_path(take.keys[0]), store.unit_path(take.keys[0], take.unit)):
        plant.put(path)
        write_whole(path, b"ours")
        assert is_ours(path) and path.read_bytes() == b"ours"
    store.write_manifest(take)
    assert is_ours(store.take_folder(take.id) / "take.json")
    assert store.read_manifest(take.id).id == take.id


def test_locks(plant, tmp_path):
    """Forbids a lock that empties what it leads to, and one at which a render waits forever."""
    store = TakeStore(tmp_path / "store")
    take = manifest(1, "0s a", 2)
    store.write_manifest(take)
    for path in (store.folder / ".lock", store.take_folder(take.id) / ".lock"):
        path.unlink(missing_ok=True)
        plant.put(path)
    for enter in (store.locked, lambda: store.rendering(take.id)):
        with (
            pytest.raises(
                TakeError, match="a lock file belongs here, but this is a link, a pipe or a folder; remove it"
            ),
            enter(),
        ):
            pass
    assert isinstance(next(store.takes()), Manifest)  # it is still read


def test_spare_names(plant, tmp_path):
    """Forbids taking a link, by the name that a film has while a player holds it, for that film."""
    store = TakeStore(tmp_path / "store")
    take = manifest(1, "0s a", 2)
    store.write_manifest(take)
    film = store.take_folder(take.id) / "film.mp4"
    write_film(film)
    for name in ("film.1.mp4", "growing.mp4", "growing.1.mp4"):
        plant.put(film.with_name(name))
    if plant.kind != "second name":  # which is a file like any other
        assert in_use.spares_of(film) == []
    store.tidy(take.id)
    if plant.kind != "second name":
        assert is_ours(film) and len(frames_of(film)) == 1
    for growing in (film.with_name("growing.mp4"), *in_use.spare_names(film.with_name("growing.mp4"))):
        assert in_use.remove(growing)
    write_film(film)
    assert is_ours(film)


@pytest.fixture
def linked(tmp_path):
    """Return another user's folder, and a function that puts a link to it in a folder's place."""
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "letter.safetensors").write_bytes(SECRET)

    def link(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.symlink_to(tmp_path / "victim", target_is_directory=True)
        except OSError as error:
            pytest.skip(f"no links can be made here ({error})")
        return path

    yield link
    assert os.listdir(tmp_path / "victim") == ["letter.safetensors"]
    assert (tmp_path / "victim" / "letter.safetensors").read_bytes() == SECRET


def test_a_linked_folder_of_chunks(linked, tmp_path):
    """Forbids writing chunks into another user's folder, and removing what no take of ours uses from it."""
    store = TakeStore(tmp_path / "store")
    take = manifest(1, "0s a", 2)
    linked(store.latents_path(take.keys[0]).parent)
    with pytest.raises(TakeError, match="is a link, and nothing is written through links"):
        store.save_latents(take.keys[0], torch.zeros(1, 16, 3, 4, 6))
    assert list(store.chunks.files()) == [] and store.stored_keys() == set()
    store.make_room(0, "")


def test_a_linked_folder_of_a_take(linked, tmp_path):
    """Forbids a film in another user's folder, and removing that folder with the take."""
    store = TakeStore(tmp_path / "store")
    take = manifest(1, "0s a", 2)
    linked(store.take_folder(take.id))
    for act in (lambda: store.write_manifest(take), lambda: store.rendering(take.id).__enter__()):
        with pytest.raises(TakeError, match="is a link, and nothing is written through links"):
            act()
    assert store.make_room(0, "") == []
    store.remove(take.id)  # the link is removed, and nothing of its target
    assert not os.path.lexists(store.take_folder(take.id))


def test_a_store_that_is_a_link(tmp_path):
    """Forbids refusing takes on another disk: the whole folder, or one of its two, may be the user's link."""
    for number, name in enumerate(("", "chunks", "takes")):
        place_of = tmp_path / f"store{number}" / name
        place_of.parent.mkdir(exist_ok=True)
        (tmp_path / f"disk{number}").mkdir()
        try:
            place_of.symlink_to(tmp_path / f"disk{number}", target_is_directory=True)
        except OSError as error:
            pytest.skip(f"no links can be made here ({error})")
        store = TakeStore(tmp_path / f"store{number}")
        take = manifest(1, "0s a", 2)
        place(store, take)
        assert store.done(take) == len(take.keys)
        assert [each.id for each in store.takes()] == [take.id]


def test_a_folder_in_the_place_of_a_file(tmp_path):
    """Forbids a raw error, or one after hours, if a folder is in a film's place."""
    (tmp_path / "film.mp4.part").mkdir()
    with pytest.raises(ValueError, match="cannot write to"):
        check_writable(tmp_path / "film.mp4")
    assert not in_use.remove(tmp_path / "film.mp4.part")
    (tmp_path / "lock").mkdir()
    with pytest.raises(OSError, match="a lock file belongs here"):
        nofollow.check_lock(tmp_path / "lock")


def test_reading_does_not_wait(tmp_path):
    """Forbids a list, a render or a check of a store that blocks on a pipe."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("there are no such pipes here")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is not a file"):
        nofollow.read(tmp_path / "pipe")
    store = TakeStore(tmp_path / "store")
    take = manifest(1, "0s a", 2)
    place(store, take)
    path = store.latents_path(take.keys[0])
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(TakeError, match="it is not a file"):
        store.load_latents(take.keys[0])


def test_a_file_that_is_replaced_while_it_is_written(tmp_path):
    """Forbids finishing a film from a file that another user put in its place."""
    film = FilmWriter(tmp_path / "film.mp4", 32, 16)
    film.write(PICTURE)
    part = part_path(tmp_path / "film.mp4")
    part.unlink()
    (tmp_path / "letter.txt").write_bytes(SECRET)
    part.symlink_to(tmp_path / "letter.txt")
    with pytest.raises(ValueError, match="was replaced while it was written"):
        film.close()
    assert (tmp_path / "letter.txt").read_bytes() == SECRET


def test_a_render_among_plants(studio, tmp_path):
    """Forbids one name of a take's that was forgotten: all of them are links, and the film is ours."""
    letter = tmp_path / "letter.txt"
    letter.write_bytes(SECRET)
    take = studio.open("0c a", chunks=1)
    folder = studio.store.take_folder(take.id)
    for name in ("film.mp4", "film.mp4.part", "film.1.mp4", "growing.mp4", "growing.1.mp4", "growing.mp4.part"):
        (folder / name).symlink_to(letter)
    studio.render(take)
    assert letter.read_bytes() == SECRET
    assert is_ours(folder / "film.mp4") and len(frames_of(folder / "film.mp4")) == 9


def test_a_render_with_a_folder_for_its_film(studio):
    """Forbids hours of rendering before it is reported."""
    take = studio.open("0c a", chunks=1)
    take.film_path.mkdir()
    with pytest.raises(TakeError, match="is a folder where the take's film belongs; remove it"):
        studio.render(take)
    assert studio.store.done(take.manifest) == 0
