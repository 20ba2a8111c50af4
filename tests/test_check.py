"""`check`: what it says of good files, and that every fault of a download is named, with exit code 1."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from longlive_core import cli
from longlive_core.checkpoints.built_in import DIT_FILE, VAE_FILE, weights_folder
from longlive_core.run import check as module
from longlive_core.run import memory
from longlive_core.run.check import check
from tests.conftest import SMALL

pytestmark = pytest.mark.slow

LAYER = "base_model.model.blocks.0.self_attn.q"


@pytest.fixture(autouse=True)
def smaller(monkeypatch):
    """Chunks of few tokens, to be quick; the built-in model has its own size in the test about it."""
    monkeypatch.setattr(module, "SIZE", (32, 16))


def run(capsys, **files):
    """(exit code, stdout) of the command; the arguments as its options."""
    options = [text for name, value in files.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    code = cli.main(["check", *options])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out


def line(out, what):
    """The line about one thing."""
    (found,) = [text for text in out.splitlines() if text.startswith(what)]
    return found


@pytest.fixture
def lora(tmp_path):
    path = tmp_path / "lora.pt"
    torch.manual_seed(1)
    torch.save({f"{LAYER}.lora_A.weight": torch.rand(2, SMALL.dim), f"{LAYER}.lora_B.weight": torch.rand(128, 2)}, path)
    return path


def test_good_files_one_line_each_and_two_chunks(capsys, files, lora):
    """Forbids a check that only looks at names: what each file is, what was merged, and two chunks that really ran."""
    code, out = run(capsys, **files, lora=lora, lora_alpha=4, lora_strength=0.5, dtype="fp32", device="cpu")
    assert code == 0, out
    assert f"{files['model']} (" in line(out, "model") and "width 128, feed-forward 32, 1 heads, 1 layers" in out
    assert "float32" in line(out, "model") and "million numbers" in line(out, "model")
    assert "LoRA of 1 layers, rank 2, alpha 4; merged into 1 of" in line(out, "LoRA")
    assert "at strength 0.5" in line(out, "LoRA")
    assert "UMT5" in line(out, "text encoder") and "width 8, 1 layers, 4 tokens known" in line(out, "text encoder")
    assert "Wan 2.1 VAE" in line(out, "VAE") and "width 4, 16 channels" in line(out, "VAE")
    assert "cpu, float32; window 12, sink 3, chunk 3, absolute positions" in line(out, "settings")
    assert "832 x 480 needs at least" in line(out, "memory")
    assert "9 frames of 32 x 16, all numbers finite" in line(out, "chunk 1 of 2")
    assert "12 frames" in line(out, "chunk 2 of 2") and "after a recache" in line(out, "chunk 2 of 2")
    assert out.splitlines()[-1] == "all in order"


def test_the_built_in_model(capsys, monkeypatch):
    """Forbids a check that works with downloads only."""
    monkeypatch.undo()
    code, out = run(capsys, model="pocket", dtype="fp32", device="cpu")
    assert code == 0, out
    assert DIT_FILE in line(out, "model") and "built in" in line(out, "VAE") and "all in order" in out
    assert "9 frames of 128 x 80" in line(out, "chunk 1 of 2")


def test_what_is_not_given_is_said(capsys, files):
    """Forbids a stand-in that is not reported."""
    code, out = run(capsys, model=files["model"])
    assert code == 0, out
    assert "not given; the pocket model's is used here. A film needs Wan2.1_VAE.pth" in line(out, "VAE")
    assert "umt5_xxl_fp16.safetensors" in line(out, "text encoder")
    assert "VAE's memory 1.9 GB" in line(out, "memory") or "VAE's memory 3.8 GB" in line(out, "memory")  # Wan's own
    assert out.splitlines()[-1] == "the given files are in order; to render, give text_encoder and vae too"


def test_every_fault_is_named_in_one_run(capsys, files, lora, tmp_path):
    """Forbids one fault a run: a user with three wrong files wants three lines, and no chunk of what is left."""
    image = tmp_path / "vae.safetensors"
    save_file({"decoder.conv_in.weight": torch.zeros(1)}, image)
    code, out = run(capsys, model=tmp_path / "gone.pt", lora=lora, text_encoder=files["vae"], vae=image, preset="best")
    assert code == 1
    assert f"WRONG: there is no file {tmp_path / 'gone.pt'}" in line(out, "model")
    assert "LoRA of 1 layers" in line(out, "LoRA") and "not merged, because there is no model" in line(out, "LoRA")
    assert "is not a UMT5 text encoder: it is Wan 2.1's VAE" in line(out, "text encoder")
    assert "is not Wan 2.1's VAE: it is an image VAE" in line(out, "VAE")
    assert "unknown preset 'best'" in line(out, "settings")
    assert out.splitlines()[-1] == "4 faults; no chunk was run"


def test_numbers_that_are_not_finite_are_found_in_each_file(capsys, files, lora, tmp_path):
    """Forbids a damaged download that passes because its names and shapes are right."""
    wrong = {}
    for name, path in (*files.items(), ("lora", lora)):
        weights = torch.load(path) if path.suffix == ".pt" else load_file(path)
        first = sorted(weights)[0]
        weights[first] = torch.full_like(weights[first], float("nan"))
        wrong[name] = tmp_path / f"{name}.safetensors"
        save_file(weights, wrong[name], {"config": "{}"})
        if name == "text_encoder":
            (tmp_path / "tokenizer.json").write_bytes((files["vae"].parent / "tokenizer.json").read_bytes())
        code, out = run(capsys, **{**files, name: wrong[name]})
        assert code == 1
        (fault,) = [text for text in out.splitlines() if "WRONG" in text]
        assert "holds NaN or infinity in 1 (" in fault and str(wrong[name]) in fault


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"blocks.0.ffn.0.weight": None}, "lacks 1 (blocks.0.ffn.0.weight)"),
        ({"blocks.0.self_attn.k.bias": None}, "missing: 1 (blocks.0.self_attn.k.bias)"),
        ({"vace_blocks.0.before_proj.weight": torch.zeros(1)}, "Wan VACE, which LongLive does not run on"),
    ],
)
def test_a_model_that_is_not_whole_or_not_the_right_one(capsys, files, tmp_path, changes, words):
    """Forbids passing a model that cannot be built."""
    weights = {**load_file(files["model"]), **changes}
    save_file({name: value for name, value in weights.items() if value is not None}, tmp_path / "model.safetensors")
    code, out = run(capsys, **{**files, "model": tmp_path / "model.safetensors"})
    assert code == 1 and words in out and "no chunk was run" in out


class Payload:
    """If it is unpickled unsafely, it creates a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


def test_broken_and_dangerous_downloads(capsys, files, tmp_path):
    """Forbids a traceback for half a file, and a .pt whose code runs."""
    half = tmp_path / "half.safetensors"
    half.write_bytes(files["model"].read_bytes()[:5000])
    evil = tmp_path / "evil.pt"
    torch.save({"generator": Payload(tmp_path / "code-was-run")}, evil)
    for path, words in ((half, "is damaged or cut short: download it again"), (evil, "is refused: it contains code")):
        code, out = run(capsys, **{**files, "model": path})
        assert code == 1 and f"WRONG: {path} {words}" in line(out, "model")
    assert not (tmp_path / "code-was-run").exists()


def test_nan_that_only_running_shows(capsys, files, tmp_path):
    """Forbids exit code 0 where weights are finite and the film is not."""
    weights = load_file(files["model"])
    for name in ("blocks.0.ffn.0.weight", "blocks.0.ffn.2.weight"):
        weights[name] = weights[name].sign() * 900.0
    save_file(weights, tmp_path / "model.safetensors")
    code, out = run(capsys, **{**files, "model": tmp_path / "model.safetensors"}, dtype="fp16", device="cpu")
    assert code == 1 and out.splitlines()[-1] == "1 fault"
    assert "WRONG: chunk 0: the model's output holds NaN or infinity" in line(out, "chunks")
    assert "step 0, layer blocks.0.ffn.2" in line(out, "chunks")


def test_a_film_that_would_not_fit_is_reported_and_no_fault(capsys, files, monkeypatch):
    """Forbids an exit code that speaks of the machine: the files are in order."""
    monkeypatch.setattr(module, "free_memory", lambda device: 1_000_000)
    code, out = run(capsys, **files, device="cpu")
    assert code == 0 and "which is NOT ENOUGH" in line(out, "memory")


def test_a_training_checkpoint_says_what_it_holds(files, tmp_path):
    """Forbids guessing which of weights and moving average was looked at."""
    weights = {f"model.{name}": value for name, value in load_file(files["model"]).items()}
    torch.save({"generator": weights, "generator_ema": weights}, tmp_path / "base.pt")
    lines = []
    assert check(tmp_path / "base.pt", prefer_ema=True, dtype="fp32", device="cpu", say=lines.append)
    assert "the file holds generator, generator_ema" in lines[0]


def test_a_wrong_device_is_a_fault(capsys, files):
    """Forbids a traceback for `--device banana`."""
    code, out = run(capsys, **files, device="banana")
    assert code == 1 and "WRONG: no device 'banana' here" in line(out, "device")


def test_the_estimate_speaks_of_the_model_at_hand(capsys, files):
    """Forbids figures of another model in the line about memory."""
    _, out = run(capsys, model="pocket", dtype="fp32", device="cpu")
    sizes = [load_file(weights_folder() / name).values() for name in (DIT_FILE, VAE_FILE)]
    numbers = sum(value.numel() for values in sizes for value in values)
    assert f"weights {memory.gigabytes(4 * numbers)}" in line(out, "memory")
