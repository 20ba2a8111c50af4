"""Before a render on the command line: the dry run, the refusals, the limit of the takes' folder."""

import argparse
import json

import pytest

from longlive_core import cli
from longlive_core.run import estimate, film_run, memory
from longlive_core.run.film_run import FilmRun
from longlive_core.run.pipeline import Pipeline
from longlive_core.takes import TakeStore
from longlive_core.words.quantities import parse_size
from tests.test_cli_takes import STORY, Shell

pytestmark = pytest.mark.slow


@pytest.fixture
def shell(capsys, tmp_path, files, monkeypatch):
    monkeypatch.setenv("LONGLIVE_CACHE", str(tmp_path / "cache"))
    return Shell(capsys, tmp_path, files)


def dry(shell, text=STORY, seconds=2.8, *more, store=True):
    where = ("--takes", shell.store) if store else ()
    return shell.run(
        "render",
        text,
        "--dry-run",
        "--duration",
        seconds,
        "--steps",
        1,
        "--width",
        32,
        "--height",
        16,
        *where,
        *shell.model,
        *more,
    )


def tree(folder):
    """Every file with its bytes and time."""
    return {path: path.is_file() and (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*")}


def stored_size(shell):
    return sum(path.stat().st_size for path in shell.store.rglob("*") if path.is_file())


def test_a_dry_run_leaves_nothing_behind(shell, monkeypatch):
    """Forbids a dry run that creates a folder, a manifest or a film; it reports what would be rendered, and why."""
    monkeypatch.chdir(shell.folder)
    code, out, err = dry(shell)
    assert code == 0 and not list(shell.folder.iterdir()), err
    assert "4 chunks, 45 frames" in out and "0 of 4 chunks reused" in out and "4 of 4 to be rendered" in out
    assert "not measured here yet" in out and " free" in out and "nothing was rendered" in out
    shell.render()
    before = tree(shell.folder)
    for text, seconds, said in (
        (STORY, 4.2, "the film became longer: 4 of 6 chunks reused"),
        (STORY.replace("ball ball", "ball ball ball"), 2.8, "prompt 2 changed: 2 of 4 chunks reused"),
        (STORY, 2.8, "4 of 4 chunks reused"),
    ):
        code, out, err = dry(shell, text, seconds, "-o", shell.folder / "other.mp4", "--takes-limit", "20GB")
        assert code == 0 and said in out and "not measured here yet" not in out, err
        assert "20.0 GB for the takes" in out
    assert dry(shell, store=False)[0] == 0
    assert tree(shell.folder) == before


def test_a_dry_run_says_what_would_be_refused(shell, monkeypatch):
    """Forbids exit code 0 for a run that cannot begin; the estimate is shown all the same."""
    for place, name, free, words in (
        (estimate, "free_disk", 1000, "the run needs"),
        (memory, "free_memory", 1000, "the run needs at least"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, lambda folder, free=free: free)
            for store in (True, False):
                code, out, err = dry(shell, store=store)
                assert code == 2 and words in err and err.count("\n") == 1 and "to be rendered" in out
    shell.store.write_text("not a folder")
    code, _, err = dry(shell)
    assert code == 2 and "takes cannot be kept in" in err
    assert [path.name for path in shell.folder.iterdir()] == ["takes"]


def test_a_full_disk_is_reported_before_anything_is_computed(shell, monkeypatch):
    """Forbids hours of rendering for a film that the disk cannot take."""
    monkeypatch.setattr(estimate, "free_disk", lambda folder: 1000)
    monkeypatch.setattr(Pipeline, "encode", None)  # nothing may be computed
    code, _, err = shell.render()
    assert code == 2 and f"has 1 kB free in '{shell.store}'" in err and "free some space, shorten" in err
    assert not list(shell.store.glob("*/*"))
    code, _, err = shell.run("render", "ball", "-o", shell.folder / "film.mp4", "--duration", 1, *shell.model)
    assert code == 2 and f"free in '{shell.folder}'" in err
    assert [path.name for path in shell.folder.iterdir()] == ["takes"]


def test_the_time_of_a_second_render_is_reported(shell):
    """Forbids a speed that is measured and never reported, and one recorded for chunks that came from the store."""
    assert "expected" not in shell.render()[1]
    book = shell.folder / "cache" / "speeds.json"
    before = book.read_bytes()
    assert "expected" not in shell.render()[1] and book.read_bytes() == before  # all reused
    assert "expected: about " in shell.render(STORY, 2.8, "film.mp4", "--seed", 1)[1]
    args = ["render", STORY, "-o", shell.folder / "film.mp4", "--duration", 2.8, "--width", 32, "--height", 16]
    assert "expected" not in shell.run(*args, *shell.model)[1]  # four steps, not one
    assert "expected: about" in shell.run(*args, *shell.model)[1]
    assert sorted(entry["key"]["steps"] for entry in json.loads(book.read_bytes())["speeds"]) == [1, 4]


def test_a_damaged_book_of_speeds_is_no_error(shell):
    """Forbids a film that fails for a file it does not need."""
    (shell.folder / "cache").mkdir()
    (shell.folder / "cache" / "speeds.json").write_text("{")
    code, out, err = shell.render()
    assert code == 0 and "45 frames" in out, err
    (shell.folder / "cache" / "speeds.json").unlink()
    (shell.folder / "cache").rmdir()
    (shell.folder / "cache").write_text("not a folder")
    assert shell.render(STORY, 2.8, "film.mp4", "--seed", 1)[0] == 0


def test_the_limit_removes_the_takes_unused_for_longest(shell):
    """Forbids a folder that grows past its limit, and removing the take whose chunks are reused."""
    for seed in (1, 2, 3):
        assert shell.render(STORY, 2.8, "film.mp4", "--seed", seed)[0] == 0
    _, second, _ = shell.ids()
    shell.render(STORY, 2.8, "film.mp4", "--seed", 1)  # which uses the first again
    limit = stored_size(shell)
    code, out, err = shell.render(STORY, 4.2, "film.mp4", "--seed", 3, "--takes-limit", limit)
    assert code == 0 and "4 of 6 chunks reused" in out, err
    assert f"removed take {second}, unused for longest: the limit is" in out
    assert second not in shell.ids() and len(shell.frames()) == 69
    assert stored_size(shell) <= limit


def test_chunks_that_are_reused_stay_when_their_take_goes(shell, monkeypatch):
    """Forbids making room by removing the chunks that the film was to begin with."""
    shell.render()
    (old,) = shell.ids()
    found, original = [], FilmRun.estimate
    with monkeypatch.context() as patch:
        patch.setattr(FilmRun, "estimate", lambda run: found.append(original(run)) or found[0])
        dry(shell, STORY, 4.2, "--takes-limit", "1GB")
    limit = found[0].limit.held + found[0].limit.needed - 1
    made, save = [], TakeStore.save_latents
    monkeypatch.setattr(TakeStore, "save_latents", lambda *args: made.append(args[1]) or save(*args))
    code, out, err = shell.render(STORY, 4.2, "film.mp4", "--takes-limit", limit)
    assert code == 0 and f"removed take {old}, unused for longest" in out, err
    assert len(made) == 2 and old not in shell.ids() and len(shell.frames()) == 69


def test_a_limit_too_small_for_the_film_removes_nothing(shell):
    """Forbids losing takes for a film that is then refused, and rendering past the limit."""
    shell.render()
    before = tree(shell.store)
    code, _, err = shell.render(STORY, 2.8, "film.mp4", "--seed", 1, "--takes-limit", "5kB")
    assert code == 2 and "the limit of 5 kB for the takes is too small for this film" in err
    assert "Raise it (--takes-limit" in err and tree(shell.store) == before


def test_takes_that_cannot_go_are_reported_before_rendering(shell, monkeypatch):
    """Forbids rendering past the limit because another process renders the take that would have to be removed."""
    shell.render()
    (old,) = shell.ids()
    monkeypatch.setattr(film_run, "render_take", None)  # nothing may be computed
    with TakeStore(shell.store).rendering(old):
        code, _, err = shell.render(STORY, 2.8, "film.mp4", "--seed", 1, "--takes-limit", stored_size(shell) * 3 // 2)
    assert code == 2 and "cannot be removed" in err and "takes list" in err and old in shell.ids()


def test_what_cannot_be_read_is_in_the_way_and_is_said(shell, monkeypatch):
    """Forbids a limit that seems to be kept since some files were not counted, and removing them."""
    shell.render()
    (old,) = shell.ids()
    (shell.store / "takes" / old / "take.json").write_text("{")
    before, limit = tree(shell.store), stored_size(shell) * 3 // 2
    monkeypatch.setattr(film_run, "render_take", None)  # nothing may be computed
    code, _, err = shell.render(STORY, 2.8, "film.mp4", "--seed", 1, "--takes-limit", limit)
    assert code == 2 and "of takes that cannot be read, and chunks that may be theirs cannot be removed" in err
    assert {path: what for path, what in tree(shell.store).items() if path in before} == before


def test_a_film_that_outgrows_the_limit_ends_there(shell, monkeypatch):
    """Forbids more bytes than the limit where the estimate was too low, and a film that ends early silently."""
    shell.render(film="whole.mp4")
    limit = stored_size(shell)
    shell.run("takes", "remove", shell.ids()[0], "--takes", shell.store)
    monkeypatch.setattr(estimate, "ASSUMED_VIDEO", 0.0)
    monkeypatch.setattr("longlive_core.run.speed.SpeedBook.video_rate", lambda book, key: None)
    code, out, err = shell.render(STORY, 2.8, "film.mp4", "--takes-limit", limit)
    done = len(shell.frames())
    assert code == 2 and 0 < done < 45 and stored_size(shell) <= limit, err
    assert f"film.mp4' ends after {(done + 3) // 12} of 4 chunks: the limit of" in err and "is reached" in err
    code, out, err = shell.render()
    assert code == 0 and "it was not finished" in out and len(shell.frames()) == 45


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("500MB", 500 * 10**6),
        ("20GB", 20 * 10**9),
        ("20 gb", 20 * 10**9),
        ("1.5k", 1500),
        ("2GiB", 2**31),
        (" 3T ", 3 * 10**12),
        ("7b", 7),
    ],
)
def test_sizes(text, size):
    """Forbids 20GB read as 20 bytes, or as 20 GiB."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0GB",
        "-1GB",
        "GB",
        "20 G B",
        "20XB",
        "1e9",
        "nan",
        "inf",
        "0.0001kB",
        "\u0663GB",
        "9" * 400 + "TB",
    ],
)
def test_sizes_that_are_none(text):
    """Forbids an unintended limit."""
    with pytest.raises(argparse.ArgumentTypeError, match="is not a size; write it like 20GB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["render", "0s a"], "give -o FILM.mp4 (only --dry-run needs none)"),
        (["render", "0s a", "--takes-limit", "lots"], "'lots' is not a size; write it like 20GB, 500MB, or in bytes"),
        (
            ["render", "0s a", "-o", "film.mp4", "--takes-limit", "1GB"],
            "--takes-limit is for the folder of --takes FOLDER",
        ),
        (["render", "0s a", "--dry-run", "-o", "film.mkv"], "must end in .mp4"),
        (
            ["render", "0s a", "--dry-run", "--width", "100", "--height", "80"],
            "width and height must be multiples of 16",
        ),
    ],
)
def test_mistakes_in_the_arguments(capsys, tmp_path, monkeypatch, arguments, words):
    """Forbids minutes of loading before a missing or useless argument comes out, and a traceback for it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Pipeline, "load", None)
    try:
        code = cli.main(arguments)
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert code == 2 and not out and words in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())
