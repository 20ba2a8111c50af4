"""Takes on the command line: rendering into a folder, going on, and tidying it."""

import av
import numpy as np
import pytest

from longlive_core import cli
from longlive_core.takes import rendering
from tests.holding import holding
from tests.test_subtitles import read_subtitles

pytestmark = pytest.mark.slow

STORY = "0c ball\n2c ball ball"


@pytest.fixture
def shell(capsys, tmp_path, files):
    return Shell(capsys, tmp_path, files)


class Shell:
    def __init__(self, capsys, folder, files):
        self.capsys, self.folder, self.store = capsys, folder, folder / "takes"
        self.model = [word for name, path in files.items() for word in (f"--{name.replace('_', '-')}", str(path))]

    def run(self, *arguments):
        """(exit code, stdout, stderr)"""
        try:
            code = cli.main([str(word) for word in arguments])
        except SystemExit as stop:
            code = stop.code
        return code, *self.capsys.readouterr()

    def render(self, text=STORY, seconds=2.8, film="film.mp4", *more):
        return self.run(
            "render",
            text,
            "-o",
            self.folder / film,
            "--duration",
            seconds,
            "--steps",
            1,
            "--width",
            32,
            "--height",
            16,
            "--takes",
            self.store,
            *self.model,
            *more,
        )

    def frames(self, film="film.mp4"):
        with av.open(str(self.folder / film)) as container:
            return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]

    def ids(self):
        return [line.split()[0] for line in self.run("takes", "list", "--takes", self.store)[1].splitlines()]


def test_a_second_render_makes_only_what_changed(shell):
    """Forbids a command that keeps takes and does not use them, and films that differ for it."""
    code, out, err = shell.render()
    assert code == 0 and "0 of 4 chunks reused" in out and "45 frames" in out, err
    assert shell.render(film="again.mp4")[0] == 0
    assert np.array_equal(shell.frames(), shell.frames("again.mp4"))
    for text, seconds, said in (
        (STORY.replace("ball ball", "ball ball ball"), 2.8, "prompt 2 changed: 2 of 4 chunks reused"),
        (STORY, 4.2, "the film became longer: 4 of 6 chunks reused"),
        (STORY.replace("2c", "1c"), 2.8, "the time of prompt 2 changed: 1 of 4 chunks reused"),
        (STORY + " {keep}", 2.8, "the transition of prompt 2 changed: 2 of 4 chunks reused"),
    ):
        code, out, err = shell.render(text, seconds, "other.mp4")
        assert code == 0 and said in out, err + out
    assert "the seed changed: 0 of 4" in shell.render(STORY, 2.8, "other.mp4", "--seed", "5")[1]
    assert "the setting window changed: 0 of 4" in shell.render(STORY, 2.8, "other.mp4", "--window", "6")[1]


def test_a_stopped_render_leaves_its_film_and_continues(shell, monkeypatch):
    """Forbids losing chunks to Ctrl-C."""
    shell.render(film="whole.mp4")
    shell.run("takes", "remove", shell.ids()[0], "--takes", shell.store)
    made, encode = [], rendering.encode_unit

    def interrupted(*arguments):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(1)
        return encode(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(rendering, "encode_unit", interrupted)
        code, _, err = shell.render()
    assert code == 130 and "film.mp4 holds the first 21 frames" in err
    assert np.array_equal(shell.frames(), shell.frames("whole.mp4")[:21])
    code, out, err = shell.render()
    assert code == 0 and "it was not finished: 3 of 4 chunks reused" in out, err  # the third had its latents already
    assert np.array_equal(shell.frames(), shell.frames("whole.mp4"))


def test_takes_are_listed_shown_joined_and_removed(shell):
    """Forbids a folder of files that only the program understands."""
    shell.render()
    (take,) = shell.ids()
    assert "4/4 chunks  32x16  seed 0  ball" in shell.run("takes", "list", "--takes", shell.store)[1]
    shown = shell.run("takes", "show", take, "--takes", shell.store)[1]
    assert "4 of 4 chunks rendered (complete)" in shown and STORY in shown and "'window': 12" in shown
    code, out, _ = shell.run("takes", "join", take, "--takes", shell.store, "-o", shell.folder / "joined.mp4")
    assert code == 0 and "45 frames" in out
    assert np.array_equal(shell.frames("joined.mp4"), shell.frames())
    named = read_subtitles(shell.folder / "film.mp4")
    assert read_subtitles(shell.folder / "joined.mp4") == named and [text for _, _, text in named] == [
        "ball",
        "ball ball",
    ]
    code, out, _ = shell.run("takes", "remove", take, "--takes", shell.store)
    assert code == 0 and f"removed {take}" in out and shell.ids() == []


def test_a_film_in_use_is_no_error(shell, monkeypatch):
    """Forbids a finished film that ends in an error because a player shows the old one (Windows)."""
    shell.render()
    (take,) = shell.ids()
    before = (shell.folder / "film.mp4").read_bytes()
    with holding(monkeypatch, shell.folder / "film.mp4"):
        code, out, err = shell.render(STORY, 4.2, "film.mp4", "--contact-sheet", shell.folder / "sheet.png")
        assert code == 0 and "film.mp4' is in use by another program" in err
        assert "film.1.mp4: 69 frames" in out and "12 pictures" in out
        code, out, err = shell.run("takes", "join", take, "--takes", shell.store, "-o", shell.folder / "film.mp4")
        assert code == 0 and "the finished film is" in err and "film.2.mp4" in err and out == ""
    assert (shell.folder / "film.mp4").read_bytes() == before
    assert [len(shell.frames(f"film.{number}.mp4")) for number in (1, 2)] == [69, 45]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "--takes", "nowhere"], "there is no folder 'nowhere'"),
        (["show", "xyz", "--takes", "."], "'xyz' is not the id of a take"),
        (["remove", "0" * 12, "--takes", "."], "there is no take 000000000000"),
        (["join", "0" * 12, "--takes", ".", "-o", "film.mp4"], "there is no take 000000000000"),
        (["show", "0" * 12], "--takes"),
        ([], "ACTION"),
    ],
)
def test_mistakes(shell, monkeypatch, arguments, words):
    """Forbids tracebacks."""
    monkeypatch.chdir(shell.folder)
    code, _, err = shell.run("takes", *arguments)
    assert code == 2 and words in err and "Traceback" not in err


def test_a_folder_that_takes_no_takes_is_reported_first(shell):
    """Forbids rendering for hours before that comes out."""
    shell.store.write_text("not a folder")
    code, _, err = shell.render()
    assert code == 2 and "takes cannot be kept in" in err and "choose a folder" in err


@pytest.mark.parametrize("stored", [False, True])
def test_a_film_may_say_nothing_of_itself(shell, stored, monkeypatch):
    """Forbids prompts in tags, subtitles, chapters and contact sheets of a film without metadata."""
    no_prompt = "longlive_core.film.contact_sheet._prompt_at"
    monkeypatch.setattr(no_prompt, lambda seconds, prompts: pytest.fail() if prompts else "")
    takes = ("--takes", shell.store) if stored else ()
    code, out, err = shell.run(
        "render",
        STORY,
        "-o",
        shell.folder / "film.mp4",
        "--duration",
        2.8,
        "--steps",
        1,
        "--width",
        32,
        "--height",
        16,
        *takes,
        *shell.model,
        "--no-metadata",
        "--contact-sheet",
        shell.folder / "sheet.png",
    )
    assert code == 0, err
    films = [shell.folder / "film.mp4"]
    if stored:
        films.append(shell.store / "takes" / shell.ids()[0] / "film.mp4")
        films.append(shell.folder / "joined.mp4")
        join = ("takes", "join", shell.ids()[0], "--takes", shell.store, "-o", films[-1])
        assert shell.run(*join, "--no-metadata")[0] == 0
    for film in films:
        with av.open(str(film)) as container:
            assert not {"comment", "longlive"} & set(container.metadata)
            assert [stream.type for stream in container.streams] == ["video"]
    code, _, err = shell.run("render", films[0], "-o", shell.folder / "again.mp4")
    assert code == 2 and "saved without metadata (--no-metadata, in ComfyUI --disable-metadata)" in err
    if stored:  # the folder keeps what it needs, and the next film may speak again
        assert "4 of 4 chunks reused" in shell.render()[1] and len(read_subtitles(films[0])) == 2


def flip(path):
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)


def test_verify_finds_what_is_damaged_and_a_render_makes_it_again(shell):
    """Forbids damage that is not reported, a check that writes, and a store that stays damaged after the render."""
    shell.render()
    (take,) = shell.ids()
    code, out, _ = shell.run("takes", "verify", "--takes", shell.store)
    assert (code, out) == (0, "1 take, 8 files; none damaged\n")
    whole, files = shell.frames(), sorted(shell.store.glob("chunks/*/*"))
    latents, video = (next(path for path in files if path.suffix == end) for end in (".safetensors", ".mp4"))
    flip(latents)
    flip(video)
    for _ in range(2):  # looked at alone, it stays
        code, out, _ = shell.run("takes", "verify", take, "--takes", shell.store)
        assert code == 1 and f" of take {take}: " in out and "its checksum does not match" in out
        assert "1 take, 8 files; 2 damaged; --repair sets damaged files aside" in out
    assert sorted(shell.store.glob("chunks/*/*")) == files
    code, out, _ = shell.run("takes", "verify", "--repair", "--takes", shell.store)
    assert code == 1 and not latents.exists() and not video.exists()
    code, out, _ = shell.run("takes", "verify", "--takes", shell.store)
    assert code == 0 and f"unfinished: take {take}: " in out
    assert shell.render()[0] == 0 and np.array_equal(shell.frames(), whole)
    assert shell.run("takes", "verify", "--takes", shell.store)[:2] == (0, "1 take, 8 files; none damaged\n")


def test_a_render_says_what_was_damaged(shell):
    """Forbids repairs in secret."""
    shell.render()
    flip(sorted(shell.store.glob("chunks/*/*.mp4"))[0])
    code, out, _ = shell.render()
    assert (
        code == 0 and "1 stored chunk was damaged or missing (" in out and "video encoded again from the latents" in out
    )


def test_join_ends_before_what_is_damaged(shell):
    """Forbids a film with garbage in it, and one that ends early silently."""
    shell.render()
    (take,) = shell.ids()
    for path in shell.store.glob("chunks/*/*.mp4"):
        flip(path)
    code, _, err = shell.run("takes", "join", take, "--takes", shell.store, "-o", shell.folder / "joined.mp4")
    assert code == 2 and "is damaged" in err and "The film ends before it" in err
