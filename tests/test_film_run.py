"""One run: its order, its temporary store, and what it leaves however it ends."""

import contextlib
import errno
import gc
import logging
import os
import sys
import weakref

import pytest
import torch

from longlive_core.cli.render import _render as render_in_cli
from longlive_core.config import StreamConfig
from longlive_core.engine.prompts import PromptEmbeddings
from longlive_core.files import in_use
from longlive_core.film.video import FilmInUse, FilmWriter
from longlive_core.run import temporary
from longlive_core.run.estimate import NotEnoughDisk
from longlive_core.run.film_run import CANCELLED, COMPLETE, FINISHED, FULL, NO_ROOM, FilmRequest, FilmRun, RunObserver
from longlive_core.run.host import Host
from longlive_core.run.memory import MemoryPlan, estimate
from longlive_core.run.render import render_film
from longlive_core.takes import Origin, Take, TakeError, TakeStore
from longlive_core.timeline import parse

from .studio import SIZE, VAE, Stop, frames_of

CHUNKS = 4
STORY = "0c a\n2c b"


class Recorder(RunObserver):
    """Writes down what happens; raises `error` at `stop_at`."""

    def __init__(self, stop_at=None, error=Stop):
        self.seen, self.stop_at, self.error = [], stop_at, error

    def note(self, what):
        self.seen.append(what)
        if what == self.stop_at:
            raise self.error

    def planned(self, run):
        self.note("planned")

    def prepare(self):
        self.note("prepare")

    def chunk(self, chunk, frames):
        self.note(f"chunk {chunk}")

    def rendered(self, run):
        self.note("rendered")

    def report(self, text):
        self.note(text)


class TinyHost:
    """The tiny models of the tests; `seen` gets the order of its steps."""

    def __init__(self, model, decoder, contexts, seen):
        self.model, self.decoder, self._contexts, self._seen = model, decoder, contexts, seen
        decoder.reset()  # other tests use it too
        self.left = []

    def origin(self, stream, size, seed):
        return Origin("model", "text", "float32", stream, size, seed)

    def vae(self):
        return VAE

    def memory(self, plan, stream, size):
        return MemoryPlan(estimate(self.model, self.decoder, plan, stream, size), None)

    def contexts(self, texts):
        def encode(texts):
            self._seen.append("encode")
            return {text: self._contexts[text] for text in texts}

        return PromptEmbeddings(encode, texts)

    def session(self, need):
        return _Noted(self._seen, "session")

    def computing(self, left_to_allocate):
        self.left.append(left_to_allocate())
        return _Noted(self._seen, "computing")


class _Noted:
    def __init__(self, seen, name):
        self.seen, self.name = seen, name

    def __enter__(self):
        self.seen.append(self.name)

    def __exit__(self, *error):
        self.seen.append(f"{self.name} ends")


@pytest.fixture
def make(tiny_model, tiny_decoder, contexts, tmp_path):
    """Returns runs of a small film at `film.mp4` in an empty folder."""
    (tmp_path / "films").mkdir()

    def make(observer=None, store=None, text=STORY, **film):
        plan = parse(text).plan((12 * CHUNKS - 3) / 16)
        observer = observer or Recorder()
        host = TinyHost(tiny_model, tiny_decoder, dict(zip("ab", contexts, strict=False)), observer.seen)
        made = FilmRequest(plan, text, StreamConfig(denoising_steps=(1000, 500)), 3, SIZE, **film)
        return FilmRun(host, made, tmp_path / "films" / "film.mp4", store, observer)

    return make


def test_the_order_of_a_run(make):
    """Forbids a model on the device before the prompts are encoded, and models that stay there after the film."""
    run = make()
    result = render_film(run)
    assert run.observer.seen == [
        *("planned", "session", "encode", "computing", "prepare"),
        *(f"chunk {chunk}" for chunk in range(CHUNKS)),
        *("computing ends", "session ends", "rendered"),
    ]
    assert (result.ended, result.frames) == (COMPLETE, 12 * CHUNKS - 3)
    assert run.host.left == [run.expected.need.run]


def test_without_a_store_nothing_is_left_but_the_film(make, tmp_path):
    """Forbids chunks that stay beside a film for which no folder of takes was given."""
    seen, run = [], make()
    run.observer.chunk = lambda chunk, frames: seen.append(sorted(path.name for path in run.path.parent.iterdir()))
    render_film(run)
    assert all(len(names) == 1 and names[0].startswith(".film.") for names in seen) and len(seen) == CHUNKS
    assert [path.name for path in run.path.parent.iterdir()] == ["film.mp4"]


def test_with_and_without_a_store_the_film_is_the_same(make, tmp_path):
    """Forbids two ways to render."""
    one = frames_of(render_film(make()).path)
    two = frames_of(render_film(make(store=TakeStore(tmp_path / "takes"))).path)
    assert len(one) == len(two) == 12 * CHUNKS - 3 and all((a == b).all() for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, Stop])
def test_what_a_stopped_run_leaves(make, tmp_path, stored, error):
    """Forbids losing what was rendered when the user stops it, and replacing a film by a part of one after an error."""
    store = TakeStore(tmp_path / "takes") if stored else None
    run = make(Recorder("chunk 2", error), store)
    with pytest.raises(error):
        render_film(run)
    kept = stored or error is KeyboardInterrupt
    assert [path.name for path in run.path.parent.iterdir()] == ["film.mp4"] * kept
    assert not kept or len(frames_of(run.path)) == 33
    assert "session ends" in run.observer.seen and run.host.decoder._memory == {}


def test_a_run_that_is_stopped_before_its_first_chunk(make, tmp_path):
    """Forbids a film of nothing."""
    run = make(Recorder("prepare", KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        render_film(run)
    assert list(run.path.parent.iterdir()) == []


def test_a_stop_that_the_caller_allows_is_a_result(make, tmp_path):
    """Forbids an error for a film that the user ended, and calling it complete."""
    with make(Recorder("chunk 1")) as run:
        result = run.render(keep_after=(Stop,))
    assert result.ended == CANCELLED and result.frames == 21


def test_what_stopped_the_run_is_raised_if_its_film_cannot_be_written(make, tmp_path):
    """Forbids a full disk's message instead of what led there; it is the cause."""
    with make(Recorder("chunk 1"), TakeStore(tmp_path / "takes")) as run:
        run.path = tmp_path / "gone" / "film.mp4"
        with pytest.raises(Stop) as stopped:
            run.render(keep_after=(Stop,))
    assert isinstance(stopped.value.__cause__, (OSError, ValueError))


def test_finish_and_the_end_of_positions(make):
    """Forbids calling a film complete that was ended by hand, and an endless one cancelled."""
    ends = {}
    for endless in (False, True):
        run = make(endless=endless)
        run.observer.chunk = lambda chunk, frames, run=run: run.live.finish() if chunk == 1 else None
        ends[endless] = render_film(run)
    assert [(end.ended, end.progress.chunk) for end in ends.values()] == [(FINISHED, 2), (FINISHED, 2)]
    run = make(endless=True)
    run.begin()
    run.live.longest_shot = 6
    assert run.render().ended == FULL


def test_no_space_under_the_limit(make, tmp_path, monkeypatch):
    """Forbids a film that ends early as if it were whole."""
    store = TakeStore(tmp_path / "takes", 10**9)
    run = make(store=store)
    run.observer.chunk = lambda chunk, frames: run.live.end("the limit is reached") if chunk == 1 else None
    with pytest.raises(NotEnoughDisk, match="ends after 2 of 4 chunks: the limit is reached"):
        render_film(run)
    assert len(frames_of(run.path)) == 21
    with make(store=store) as run:
        run.live.end("the limit is reached")
        assert run.render().ended == NO_ROOM


def test_what_is_stored_needs_no_model(make, tmp_path):
    """Forbids loading models, and encoding prompts, for a film whose every chunk is stored."""
    store = TakeStore(tmp_path / "takes")
    render_film(make(store=store))
    run = make(store=store)
    assert render_film(run).progress.rendered == 0
    assert "computing" not in run.observer.seen and "encode" not in run.observer.seen
    assert (run.reused, run.reason) == (CHUNKS, None) and "4 of 4 chunks reused" in run.reuse


def test_an_estimate_writes_nothing(make, tmp_path):
    """Forbids a dry run that leaves files."""
    for store in (None, TakeStore(tmp_path / "takes", create=False)):
        assert make(store=store).estimate().made == CHUNKS
    assert list((tmp_path / "films").iterdir()) == [] and not (tmp_path / "takes").exists()


def test_settings_that_contradict_each_other(make):
    """Forbids a plan in other chunks than the model's, before anything is written."""
    run = make()
    plan = parse(STORY.replace("c", "s")).plan(4, chunk=1)
    run.request = FilmRequest(plan, STORY, StreamConfig(), 3, SIZE)
    with pytest.raises(ValueError, match="the plan has chunks of 1 latent frames, the run of 3"):
        run.begin()
    run.request = FilmRequest(make().request.plan, STORY, StreamConfig(), 3, (50, 32))
    with pytest.raises(ValueError, match="multiples of 16"):
        run.begin()
    assert list(run.path.parent.iterdir()) == []


def test_latents_as_a_start(make, tmp_path):
    """Forbids a start that is rendered over."""
    store, start = TakeStore(tmp_path / "takes"), torch.randn(1, 16, 3, 4, 6)
    run = make(store=store, start=start)
    result = render_film(run)
    assert result.progress.rendered == CHUNKS - 1
    assert torch.equal(store.load_latents(result.take.manifest.keys[0]), start)


def interrupt_join(monkeypatch, times):
    """The first `times` joins of films called film.mp4 that are not in a store are interrupted."""
    add, left = FilmWriter.add, [times]

    def interrupted(writer, unit):
        if ".takes" not in str(writer.path) and writer.frames and left[0]:
            left[0] -= 1
            raise KeyboardInterrupt
        add(writer, unit)

    monkeypatch.setattr(FilmWriter, "add", interrupted)


def test_ctrl_c_while_the_film_is_joined(make, monkeypatch):
    """Forbids losing every chunk to a Ctrl-C in the last second."""
    run = make()
    interrupt_join(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        render_film(run)
    assert [path.name for path in run.path.parent.iterdir()] == ["film.mp4"]
    assert len(frames_of(run.path)) == run.frames == 12 * CHUNKS - 3


def test_a_second_ctrl_c_stops_the_join(make, monkeypatch):
    """Forbids a command that cannot be stopped, half a film in place of an older one, and saying there is one."""
    run = make(Recorder("chunk 2", KeyboardInterrupt))
    run.path.write_bytes(b"older")
    interrupt_join(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        render_film(run)
    assert [path.name for path in run.path.parent.iterdir()] == ["film.mp4"]
    assert run.path.read_bytes() == b"older" and run.frames == 0


def test_a_join_that_fails_is_not_tried_again(make, tmp_path, monkeypatch):
    """Forbids a second spare film beside one that a player holds."""
    joins = []

    def join(take, path, tags, subtitles):
        joins.append(path)
        raise FilmInUse(path, path)

    run = make(store=TakeStore(tmp_path / "takes"))
    run.observer.rendered = lambda run: monkeypatch.setattr(Take, "join", join)
    with pytest.raises(FilmInUse):
        render_film(run)
    assert joins == [run.path]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (None, "film.mp4 holds the first 33 frames"),
        (OSError(errno.ENOSPC, "No space left on device"), "note: [Errno 28] No space left on device"),
        (FilmInUse("film.mp4", "film.1.mp4"), "the finished film is 'film.1.mp4'"),
    ],
)
def test_what_the_command_says_after_ctrl_c(make, monkeypatch, capsys, error, said):
    """Forbids saying that a file holds a film that could not be written there."""
    run, join = make(), Take.join

    def failing(take, path, *args, **named):
        if error is not None and path == run.path:
            raise error
        return join(take, path, *args, **named)

    def stop(bar, chunk, frames):
        if chunk == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Take, "join", failing)
    monkeypatch.setattr("longlive_core.cli.progress.ProgressBar.chunk", stop)
    with pytest.raises(KeyboardInterrupt):
        render_in_cli(run)
    err = capsys.readouterr().err
    assert said in err and ("holds" in err) == (error is None)


@pytest.mark.parametrize("name", ["x" * 246, "ü" * 123, ".a", " b ", "c\nd"])
def test_names_of_films(make, name):
    """Forbids a temporary folder whose name is longer than the film's, which a disk may not permit."""
    run = make()
    run.path = run.path.with_name(f"{name}.mp4")
    render_film(run)
    assert [path.name for path in run.path.parent.iterdir()] == [run.path.name]


def test_folders_of_runs_that_were_killed(make):
    """Forbids folders that pile up beside films, and removing one that a run uses or that is not a run's."""
    run = make()
    folder = run.path.parent
    for name in ("film.aaaaaaaa", "film.bbbbbbbb", "other.aaaaaaaa", "film.x.aaaaaaaa", "film.short"):
        (folder / f".{name}.takes" / "chunks").mkdir(parents=True)
        (folder / f".{name}.takes" / temporary.LOCK).touch()
    (folder / ".film.cccccccc.takes").mkdir()  # without a lock
    (folder / ".film.dddddddd.takes").symlink_to(folder / ".other.aaaaaaaa.takes", target_is_directory=True)
    names = sorted(path.name for path in folder.iterdir())
    with temporary.FileLock(str(folder / ".film.bbbbbbbb.takes" / temporary.LOCK)):
        render_film(run)
    left = sorted(path.name for path in folder.iterdir())
    assert left == sorted({*names, "film.mp4"} - {".film.aaaaaaaa.takes"})
    assert (folder / ".other.aaaaaaaa.takes" / "chunks").is_dir()


def test_chunks_that_are_removed_are_not_synced(make, tmp_path, monkeypatch):
    """Forbids waiting for the disk, chunk by chunk, for files that are removed with their folder."""
    calls, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append(file), fsync(file)))
    render_film(make(store=TakeStore(tmp_path / "takes")))
    stored = len(calls)
    render_film(make())
    assert stored - (len(calls) - stored) >= 3 * CHUNKS  # latents, video, and their folder


def test_two_runs_of_one_film_at_once(make):
    """Forbids a run that removes the folder of another."""
    with make() as one:
        render_film(make())
        assert one.render().frames == 12 * CHUNKS - 3
    assert [path.name for path in one.path.parent.iterdir()] == ["film.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="locks there need no flock")
@pytest.mark.filterwarnings("ignore:flock not supported")
@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks(make, monkeypatch, code):
    """Forbids that only stores of takes, which need locks, can be rendered to."""
    import fcntl

    def refuse(*args):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    run = make()
    (run.path.parent / ".film.aaaaaaaa.takes").mkdir()
    (run.path.parent / ".film.aaaaaaaa.takes" / temporary.LOCK).touch()
    assert render_film(run).ended == COMPLETE
    assert sorted(path.name for path in run.path.parent.iterdir()) == [".film.aaaaaaaa.takes", "film.mp4"]


def test_a_full_disk_without_a_store(make, monkeypatch):
    """Forbids a message that promises chunks which are removed with their folder."""
    run, replace = make(), in_use.replace

    def full(source, target):
        if ".takes" in str(target) and run.observer.seen[-1:] == ["chunk 1"]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(in_use, "replace", full)
    run.path.write_bytes(b"older")
    with pytest.raises(TakeError, match=r"cannot keep the chunks of '.*film\.mp4' .*No space.*--takes FOLDER") as stop:
        render_film(run)
    assert "is kept" not in str(stop.value)
    assert [path.name for path in run.path.parent.iterdir()] == ["film.mp4"] and run.path.read_bytes() == b"older"


def test_a_temporary_folder_that_cannot_be_removed(make, monkeypatch, caplog):
    """Forbids an error in place of a finished film."""
    monkeypatch.setattr("shutil.rmtree", lambda *args, **named: None)
    monkeypatch.setattr(temporary.tempfile.TemporaryDirectory, "_rmtree", lambda *args, **named: None)
    with caplog.at_level(logging.WARNING):
        assert render_film(make()).ended == COMPLETE
    assert "could not be removed" in caplog.text


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("stored", [False, True])
def test_models_are_free_after_ctrl_c(make, tmp_path, monkeypatch, stored, full):
    """Forbids a cycle of a frame and the exception that passed through it, also where the film cannot be written."""
    gc.disable()
    try:
        run = make(Recorder("chunk 1", KeyboardInterrupt), TakeStore(tmp_path / "takes") if stored else None)
        if full:
            join = Take.join
            path = run.path

            def failing(take, to, *args, **named):
                if to == path:
                    raise OSError(errno.ENOSPC, "No space")
                return join(take, to, *args, **named)

            monkeypatch.setattr(Take, "join", failing)
        host = weakref.ref(run.host)
        with contextlib.suppress(KeyboardInterrupt):
            render_film(run)
        del run
        assert host() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("stop_at", [None, "chunk 1"])
def test_models_are_free_after_the_film(make, stop_at):
    """Forbids circles of references: models would stay on the device until Python looks for them."""

    def render():
        run = make(Recorder(stop_at))
        with run:
            result = run.render(keep_after=(Stop,))  # a result is a local of its caller, whose frame a traceback knows
        assert result.frames
        return weakref.ref(run.host)

    gc.disable()
    try:
        assert render()() is None
    finally:
        gc.enable()


def test_hosts_follow_the_protocol(make):
    """Forbids a host that lacks a method which only some films call."""
    from longlive_core.run.host import PipelineHost

    methods = {name for name in vars(Host) if not name.startswith("_") and callable(getattr(Host, name))}
    assert methods == {"origin", "vae", "memory", "contexts", "session", "computing"}
    for host in (PipelineHost, TinyHost):
        assert all(callable(getattr(host, name)) for name in methods)
