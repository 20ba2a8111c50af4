"""The command line: what it reads, what it refuses and how, and a film rendered from end to end with a tiny model."""

import copy
import io
import json
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from longlive_core import cli
from longlive_core.cli import timeline
from longlive_core.cli.progress import ProgressBar
from longlive_core.config import StreamConfig
from longlive_core.run import film_run, memory, pipeline
from longlive_core.run.pipeline import Pipeline
from longlive_core.vae import StreamingDecoder, WanVAE
from tests.conftest import TINY
from tests.test_subtitles import read_subtitles

ANSWERS_AT_ONCE = "the model must not be loaded for this"


@pytest.fixture
def no_model(monkeypatch):
    """Errors must be reported before minutes of loading."""

    def load(*arguments, **named):
        raise AssertionError(ANSWERS_AT_ONCE)

    monkeypatch.setattr(Pipeline, "load", load)


@pytest.fixture
def tiny_pipeline(monkeypatch, tiny_model):
    """Random weights behind Pipeline.load; returns the list of what load was requested."""
    torch.manual_seed(0)
    decoder = StreamingDecoder(WanVAE(dim=8).requires_grad_(False))
    asked = []

    def encode(texts):
        return {
            text: torch.randn(1, 5, TINY.text_dim, generator=torch.Generator().manual_seed(len(text))) for text in texts
        }

    def load(*arguments, **named):
        asked.append((arguments, named))
        return SimpleNamespace(
            model=tiny_model,
            decoder=decoder,
            encode=encode,
            stream=StreamConfig(),
            default_size=(48, 32),
            text=SimpleNamespace(cuts=lambda texts: [], model=torch.nn.Linear(2, 2)),
        )

    monkeypatch.setattr(Pipeline, "load", load)
    monkeypatch.setattr(pipeline, "default_size", lambda model: (48, 32))
    return asked


def run(capsys, *arguments):
    """(exit code, stdout, stderr)"""
    try:
        code = cli.main(arguments)
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def frames_of(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


# --- Mistakes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["render", "panda.txt"], "there is no file 'panda.txt'"),
        (["render", "my timelines/the panda.txt"], "there is no file"),
        (["render", "./the panda"], "there is no file"),
        (["render", "timelines/panda"], "there is no file"),
        (["render", "my film.mp4"], "there is no file 'my film.mp4'"),
        (["render", r"C:\my films\panda"], "there is no file"),
        (["render", "."], "is a folder"),
        (["render", "0s a\n5s b {seed=x}"], "line 2, column 7: the seed 'x'"),
        (["render", "0s a panda", "--duration", "-3"], "the duration is -3 s"),
        (["render", "0s a panda", "-o", "film.mkv"], "must end in .mp4"),
        (["render", "0s a panda", "-o", "none/film.mp4"], "does not exist"),
        (["render", "0s a panda", "--contact-sheet", "sheet.jpg"], "must end in .png"),
        (["render", "0s a panda", "--contact-sheet", "none/sheet.png"], "does not exist"),
        (["render", "0s a panda", "--dtype", "int8"], "--dtype"),
        (["render", "0s a panda", "--seed", "x"], "--seed"),
        (["render", "0s a panda", "--device", "banana"], "no device 'banana' here"),
        (["render", "0s a panda", "--device", "cuda:99"], "no device 'cuda:99' here"),
        (["render", "  "], "the timeline is empty"),
        (["render", "0s a\n5s"], "line 2, column 3: the segment at 5s has no text"),
        (["render", "0s a\n5s b\n2s c"], "line 3, column 1: the segment starts at 2s"),
        (["render", "0s a\n30s b", "--duration", "5"], "past the end of the film"),
        (["render", "0s a {foo=1}"], "unknown option {foo=1}; options at the end of a prompt are {recache}"),
        (["render", "0s a", "--width", "100", "--height", "80"], "must be multiples of 16, such as 96 x 80"),
        (["render", "0s a panda", "--height", "96"], "height 96 without a width: give both, or neither"),
        (["render", "0s a", "--size", "draft", "--width", "96", "--height", "96"], "size draft and width 96"),
        (["render", "0s a panda", "--size", "huge"], "--size"),
        (["render", "0s a panda", "--window", "4"], "window 4, sink 3, chunk 3 (latent frames): the window holds"),
        (["render", "0s a panda", "--sink", "2"], "sink 2, chunk 3 (latent frames): sink and window - sink (10) must"),
        (["render", "0s a panda", "--window", "-1"], "everything stays visible, so sink must be 0"),
        (["render", "0s a panda", "--chunk", "0"], "chunk"),
        (["render", "0s a panda", "--steps", "0"], "0 denoising steps: allowed are 1 to 1000"),
        (["render", "0s a panda", "--shift", "0"], "shift 0.0: it must be above 0"),
        (["render", "0s a panda", "--seed", "-1"], "seed -1: allowed are 0 to"),
        (["render", "0s a panda", "--preset", "best"], "unknown preset 'best': allowed are longlive-1.3b"),
        (["render", "0s a", "--positions", "absolute", "--duration", "300"], "absolute positions end at 1024 (256 s)"),
        (["render", "0s a", "--model", "x.pt", "--duration", "300"], "choose relative positions, which have no end"),
        (["replay", "none.safetensors", "out.safetensors"], "none.safetensors"),
        (["convert", "none.pt", "out.safetensors"], "none.pt"),
        (["convert", "none.pt", "out.safetensors", "--lora"], "none.pt"),
        (["convert", "a.pt", "out.safetensors", "--lora", "--merge", "b.pt"], "--merge needs a diffusion model"),
        (["convert", "a.pt", "out.safetensors", "--lora", "--int8"], "--int8 needs a diffusion model"),
        (["fly"], "fly"),
        ([], "COMMAND"),
    ],
)
def test_mistakes_end_in_one_line(capsys, tmp_path, monkeypatch, no_model, arguments, words):
    """Forbids tracebacks, walls of text, exit code 0 or 1, and a path rendered as a prompt."""
    monkeypatch.chdir(tmp_path)
    if arguments[:1] == ["render"] and "-o" not in arguments:
        arguments = [*arguments, "-o", "film.mp4"]
    code, out, err = run(capsys, *arguments)
    assert code == 2 and not out
    assert words in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--window", "-1", "--sink", "0", "--positions", "relative", "--duration", "80000"], "Lower the window"),
        (["--width", "160000", "--height", "160000"], "Lower width and height"),
    ],
)
def test_a_film_too_large_leaves_no_file(capsys, tmp_path, tiny_pipeline, monkeypatch, arguments, words):
    """Forbids an allocator's error, or a machine that swaps itself to death, for what shapes tell beforehand."""
    monkeypatch.setattr(memory, "free_memory", lambda device: 50_000_000)
    monkeypatch.setattr(film_run, "render_take", None)  # nothing may be computed
    code, _, err = run(capsys, "render", "a panda", "-o", str(tmp_path / "film.mp4"), "--duration", "1", *arguments)
    assert code == 2 and words in err and "Traceback" not in err
    assert "the run needs at least" in err and "MB available" in err
    assert not list(tmp_path.iterdir())


def test_nan_ends_in_one_line_and_no_film(capsys, tmp_path, tiny_pipeline, tiny_model, monkeypatch):
    """Forbids a black film with exit code 0."""
    broken = copy.deepcopy(tiny_model.module)
    broken.blocks[1].ffn[2].bias.data[0] = float("nan")
    monkeypatch.setattr(tiny_model, "module", broken)
    code, _, err = run(capsys, "render", "a panda", "-o", str(tmp_path / "film.mp4"), "--duration", "1")
    assert code == 2 and "Traceback" not in err
    assert "chunk 0: the model's output holds NaN or infinity; step 0, layer blocks.1.ffn.2: its weights hold" in err
    assert not list(tmp_path.iterdir())


def test_an_unwritable_folder_is_reported_before_the_model_is_loaded(capsys, tmp_path, monkeypatch, no_model):
    """Forbids hours of rendering into a folder that takes no file. (Folder rights do not bind an administrator.)"""

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("longlive_core.files.nofollow.create", refuse)
    code, _, err = run(capsys, "render", "0s a panda", "-o", str(tmp_path / "film.mp4"))
    assert code == 2 and err.count("\n") == 1
    assert f"cannot write to '{tmp_path / 'film.mp4'}' (Permission denied); choose a folder you may write to" in err


def test_memory_that_ends_while_loading_is_reported(capsys, tmp_path, monkeypatch):
    """Forbids a traceback from the allocator of a GPU."""

    def load(**named):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.64 GiB")

    monkeypatch.setattr(Pipeline, "load", load)
    code, _, err = run(capsys, "render", "0s a panda", "-o", str(tmp_path / "film.mp4"))
    assert code == 2 and "not enough memory (CUDA out of memory" in err and "--device cpu" in err


def test_model_options_reach_the_loader(capsys, tmp_path, tiny_pipeline):
    """Forbids options that are parsed and dropped."""
    code, _, err = run(
        capsys,
        "render",
        "a ball",
        "-o",
        str(tmp_path / "film.mp4"),
        "--duration",
        "1",
        "--steps",
        "1",
        "--preset",
        "self-forcing",
        "--lora-strength",
        "0.5",
        "--lora-alpha",
        "64",
        "--no-prefer-ema",
    )
    assert code == 0, err
    ((_, named),) = tiny_pipeline
    wanted = {"preset": "self-forcing", "lora_strength": 0.5, "lora_alpha": 64.0, "prefer_ema": False}
    assert {name: named[name] for name in wanted} == wanted
    with av.open(str(tmp_path / "film.mp4")) as container:
        made = json.loads(container.metadata["longlive"])
    assert (made["window"], made["sink"]) == (-1, 0)  # the preset's, not LongLive's


# --- The source of the timeline


def test_timeline_from_a_file(tmp_path):
    """Forbids a byte order mark, or Windows' UTF-16, in the first prompt."""
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path = tmp_path / "a timeline.txt"
        path.write_bytes("0s \u718a\u732b".encode(encoding))
        assert timeline.read_timeline(str(path)) == "0s \u718a\u732b"
    path.write_bytes(b"\xe4\xf6\xfc and more")
    with pytest.raises(ValueError, match="is not UTF-8"):
        timeline.read_timeline(str(path))


def test_timeline_from_standard_input(monkeypatch):
    """Forbids reading '-' as a prompt."""
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"0s a\n5s b")))
    assert timeline.read_timeline("-") == "0s a\n5s b"


@pytest.mark.parametrize(
    "text",
    [
        "panda",
        "A panda walks in the snow.",
        "0s a/b testing",
        "a | b",
        "0s a\n5s see panda.txt",
        "A cup of coffee, f/1.8",
        '{"prompts": ["a/b.txt"]}',
        "[0s-5s: x.txt",
        "x" * 5000,
    ],
)
def test_timeline_as_text(text):
    """Forbids refusing prompts that only resemble paths."""
    assert timeline.read_timeline(text) == text


# --- Work


def test_render_from_end_to_end(capsys, tmp_path, tiny_pipeline):
    """Forbids films of the wrong length, plans that are not shown, and metadata that does not describe the render."""
    film, sheet = tmp_path / "film.mp4", tmp_path / "sheet.png"
    timeline = tmp_path / "timeline.txt"
    timeline.write_text("* A red ball.\n0s It rolls\n1s It hops {keep}\n2s It stops {cut}\n", encoding="utf-8")
    code, out, err = run(
        capsys,
        "render",
        str(timeline),
        "-o",
        str(film),
        "--duration",
        "2.5",
        "--seed",
        "7",
        "--steps",
        "2",
        "--contact-sheet",
        str(sheet),
        "--lora",
        "x.pt",
        "--dtype",
        "fp32",
    )
    assert code == 0, err
    # shots of 3 and 1 chunks: 33 + 9 frames
    assert "4 chunks, 42 frames, 2.62 s at 16 fps" in out and "frames/s" in out
    assert "chunk 4/4" in err
    frames = frames_of(film)
    assert frames.shape == (42, 32, 48, 3)
    with av.open(str(film)) as container:
        made = json.loads(container.metadata["longlive"])
        assert container.metadata["comment"].startswith("* A red ball.")
    assert (made["seed"], made["denoising_steps"], made["model"]) == (7, [1000, 500], "pocket")
    assert [segment["text"] for segment in made["segments"]][2] == "A red ball. It stops"
    assert [text for _, _, text in read_subtitles(film)] == [segment["text"] for segment in made["segments"]]
    assert sheet.stat().st_size > 0
    ((_, named),) = tiny_pipeline
    assert (named["lora"], named["dtype"], named["vae"]) == ("x.pt", "fp32", None)


def test_equal_commands_make_equal_films(capsys, tmp_path, tiny_pipeline):
    """Forbids a seed that does nothing, and one that is not all there is to chance."""
    files = []
    for number, seed in enumerate(("1", "1", "2")):
        path = tmp_path / f"{number}.mp4"
        code, _, err = run(
            capsys, "render", "a ball", "-o", str(path), "--duration", "1", "--steps", "1", "--seed", seed
        )
        assert code == 0, err
        files.append(path.read_bytes())
    assert files[0] == files[1] and files[0] != files[2]


def test_settings_reach_the_run(capsys, tmp_path, tiny_pipeline):
    """Forbids options that are parsed and dropped; frame-wise chunks also change the plan."""
    code, out, err = run(
        capsys,
        "render",
        "a ball",
        "-o",
        str(tmp_path / "film.mp4"),
        "--duration",
        "1",
        "--steps",
        "1",
        "--chunk",
        "1",
        "--window",
        "5",
        "--sink",
        "2",
        "--shift",
        "3",
        "--sink-policy",
        "refreshed",
        "--positions",
        "relative",
        "--width",
        "32",
        "--height",
        "16",
    )
    assert code == 0, err
    assert "5 chunks, 17 frames" in out
    assert frames_of(tmp_path / "film.mp4").shape == (17, 16, 32, 3)
    with av.open(str(tmp_path / "film.mp4")) as container:
        made = json.loads(container.metadata["longlive"])
    wanted = {"chunk": 1, "window": 5, "sink": 2, "shift": 3.0, "sink_policy": "refreshed", "positions": "relative"}
    assert {name: made[name] for name in wanted} == wanted


def test_a_size_by_name(capsys, tmp_path, tiny_pipeline):
    """Forbids a name that is taken and changes nothing, and numbers that lose against the default."""
    path = tmp_path / "film.mp4"
    short = ("render", "a ball", "-o", str(path), "--duration", "0.5", "--steps", "1")
    wanted = {(): (32, 48), ("--size", "draft"): (80, 112), ("--width", "64", "--height", "48"): (48, 64)}
    for options, shape in wanted.items():
        code, _, err = run(capsys, *short, *options)
        assert code == 0, err
        assert frames_of(path).shape[1:3] == shape


def record_of(path):
    with av.open(str(path)) as container:
        return json.loads(container.metadata["longlive"])


@pytest.fixture
def film(capsys, tmp_path, tiny_pipeline):
    """A film with nothing by default but the model's name, and prompts whose times follow the exact duration."""
    path = tmp_path / "film.mp4"
    code, _, err = run(
        capsys,
        "render",
        "a ball | a cube {keep} | a cone {cut}",
        "-o",
        str(path),
        "--duration",
        "2.2",
        "--seed",
        "7",
        "--steps",
        "2",
        "--shift",
        "3",
        "--window",
        "5",
        "--sink",
        "1",
        "--sink-policy",
        "refreshed",
        "--chunk",
        "1",
        "--positions",
        "relative",
        "--width",
        "32",
        "--height",
        "16",
    )
    assert code == 0, err
    return path


def test_a_film_is_rendered_again_from_itself(capsys, tmp_path, film):
    """Forbids a film that cannot be rendered again without the command that rendered it."""
    code, out, err = run(capsys, "render", str(film), "-o", str(tmp_path / "again.mp4"))
    assert code == 0 and "note:" not in err, err
    assert np.array_equal(frames_of(film), frames_of(tmp_path / "again.mp4"))
    assert film.read_bytes() == (tmp_path / "again.mp4").read_bytes()
    assert read_subtitles(film) == read_subtitles(tmp_path / "again.mp4")
    assert [text for _, _, text in read_subtitles(film)] == ["a ball", "a cube", "a cone"]


def stop_before_third(bar, chunk, step):
    """Press Ctrl-C before the third chunk."""
    if chunk == 2:
        raise KeyboardInterrupt


def test_a_film_that_was_saved_elsewhere_or_ended_early_is_rendered_whole(capsys, tmp_path, film, monkeypatch):
    """Forbids needing the file as it was first written, and taking the length from a film that was stopped."""
    with monkeypatch.context() as patch:
        patch.setattr(ProgressBar, "step", stop_before_third)
        assert run(capsys, "render", str(film), "-o", str(tmp_path / "part.mp4"))[0] == 130
    with (
        av.open(str(tmp_path / "part.mp4")) as source,
        av.open(str(tmp_path / "A Film.MOV"), "w", format="mov", options={"movflags": "use_metadata_tags"}) as target,
    ):
        target.metadata.update(source.metadata)
        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    assert len(frames_of(tmp_path / "A Film.MOV")) == 5
    assert [text for _, _, text in read_subtitles(tmp_path / "part.mp4")] == ["a ball"]
    code, _, err = run(capsys, "render", str(tmp_path / "A Film.MOV"), "-o", str(tmp_path / "again.mp4"))
    assert code == 0, err
    assert np.array_equal(frames_of(film), frames_of(tmp_path / "again.mp4"))


def test_options_win_over_the_film(capsys, tmp_path, film):
    """Forbids options that are ignored where the film says something else."""
    changes = {
        "seed": 0,
        "shift": 4.0,
        "window": 7,
        "sink": 3,
        "sink_policy": "held",
        "positions": "absolute",
        "width": 48,
        "height": 32,
    }
    options = [word for name, value in changes.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    before, path = record_of(film), tmp_path / "other.mp4"
    code, _, err = run(capsys, "render", str(film), "-o", str(path), "--steps", "1", "--duration", "3", *options)
    assert code == 0, err
    made = record_of(path)
    for name, value in {**changes, "denoising_steps": [1000], "chunks": 14, "chunk": 1}.items():
        assert made[name] == value and (name == "chunk" or before[name] != value), name
    code, out, err = run(capsys, "render", str(film), "-o", str(path), "--chunk", "3", "--window", "9", "--sink", "0")
    assert code == 0 and "4 chunks, 42 frames" in out, err + out  # two shots; as long as the film, in whole chunks
    code, _, err = run(capsys, "render", str(film), "-o", str(path), "--preset", "self-forcing")
    assert code == 0 and (record_of(path)["window"], record_of(path)["seed"]) == (-1, 7), err


def test_another_model_than_the_films_is_reported(capsys, tmp_path, film, monkeypatch):
    """Forbids a silent difference, and refusing a model whose file was renamed."""
    monkeypatch.setattr(pipeline, "settings_for", lambda model, preset: StreamConfig())
    code, _, err = run(capsys, "render", str(film), "-o", str(tmp_path / "a.mp4"), "--model", "files/longlive.pt")
    assert code == 0
    assert "note: the film was made with the model 'pocket', it is rendered again with 'longlive.pt' (--model)" in err


def test_a_film_without_a_record_is_reported_at_once(capsys, tmp_path, no_model):
    """Forbids a decoder's error, or the timeline read as a text of strange letters."""
    (tmp_path / "film.mp4").write_bytes(b"\x00\x01 not a film")
    code, _, err = run(capsys, "render", str(tmp_path / "film.mp4"), "-o", str(tmp_path / "again.mp4"))
    assert code == 2 and err.count("\n") == 1 and "film.mp4' is not a video that can be read" in err


def test_a_stopped_film_is_kept(capsys, tmp_path, tiny_pipeline, monkeypatch):
    """Forbids losing what was rendered when the user presses Ctrl-C."""
    monkeypatch.setattr(ProgressBar, "step", stop_before_third)
    code, _, err = run(capsys, "render", "a ball", "-o", str(tmp_path / "film.mp4"), "--duration", "3", "--steps", "1")
    assert code == 130
    assert "holds the first 21 frames" in err and "Traceback" not in err
    assert len(frames_of(tmp_path / "film.mp4")) == 21


def test_replay_runs_a_recording(capsys, tmp_path):
    """Forbids a replay command that does not write the outputs."""
    from pathlib import Path

    source = Path(__file__).parent / "fidelity" / "vae.safetensors"
    code, out, err = run(capsys, "replay", str(source), str(tmp_path / "out.safetensors"))
    assert code == 0, err
    assert "largest difference" in out and (tmp_path / "out.safetensors").exists()


def test_convert_writes_what_comfyui_reads(capsys, tmp_path, tiny_model):
    """Forbids a convert command that mixes up models and LoRAs, or drops the LoRA it was to merge."""
    source, target, lora = tmp_path / "model.pt", tmp_path / "model.safetensors", tmp_path / "lora.safetensors"
    torch.save(
        {"generator": {f"model.{name}": value for name, value in tiny_model.module.state_dict().items()}}, source
    )
    layer = "blocks.0.self_attn.q"
    factors = {"A": torch.rand(2, TINY.dim), "B": torch.rand(TINY.dim, 2)}
    save_file({f"base_model.model.{layer}.lora_{side}.weight": value for side, value in factors.items()}, lora)

    assert run(capsys, "convert", str(source), str(target))[0] == 0
    plain = load_file(target)
    assert run(capsys, "convert", str(source), str(target), "--merge", str(lora), "--alpha", "2")[0] == 0
    merged = load_file(target)
    changed = {name for name in plain if not torch.equal(plain[name], merged[name])}
    assert changed == {f"{layer}.weight"}

    assert run(capsys, "convert", str(lora), str(tmp_path / "out.safetensors"), "--lora", "--alpha", "2")[0] == 0
    assert set(load_file(tmp_path / "out.safetensors")) == {
        f"diffusion_model.{layer}.{part}" for part in ("lora_A.weight", "lora_B.weight", "alpha")
    }


def test_convert_makes_an_int8_file(capsys, tmp_path, tiny_model):
    """Forbids an --int8 that does nothing, and a file that the engine does not load again."""
    source, target = tmp_path / "model.safetensors", tmp_path / "int8.safetensors"
    save_file(tiny_model.module.state_dict(), source)
    code, out, err = run(capsys, "convert", str(source), str(target), "--int8")
    assert code == 0, err
    assert "INT8" in out and "20 layers" in out
    written = load_file(target)
    assert written["blocks.0.self_attn.q.weight"].dtype == torch.int8
    assert written["head.head.weight"].dtype == torch.bfloat16
