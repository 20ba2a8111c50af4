"""`check` and `convert` on files whose names and lengths are right and whose numbers cannot be."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from longlive_core import cli
from longlive_core.checkpoints import CheckpointError, convert_lora, convert_model
from longlive_core.checkpoints.built_in import DIT_FILE, weights_folder
from longlive_core.checkpoints.lora.parts import Difference, LoraLayer
from longlive_core.checkpoints.weight_checks import lora_problems, weight_problems
from longlive_core.config import ModelConfig
from longlive_core.model import WanModel
from longlive_core.run import check as module

from ..lora_files import changes, lora_file

pytestmark = pytest.mark.slow

CONFIG = ModelConfig(dim=128, ffn_dim=32, num_heads=1, num_layers=3)
Q = "blocks.0.self_attn.q.weight"


@pytest.fixture(autouse=True)
def smaller(monkeypatch):
    monkeypatch.setattr(module, "SIZE", (32, 16))


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    return {name: value.detach() for name, value in WanModel(CONFIG).state_dict().items()}


def faults(capsys, model, lora=None, *options):
    """(exit code of `check`, its lines that name a fault)."""
    given = [] if lora is None else ["--lora", str(lora)]
    code = cli.main(["check", "--model", str(model), "--dtype", "fp32", *given, *options])
    return code, [line for line in capsys.readouterr().out.splitlines() if "WRONG" in line]


def saved(path, tensors):
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path)
    return path


def holed(tensor, rows):
    tensor = tensor.clone()
    tensor[rows] = 0
    return tensor


def test_a_sound_model_has_none(capsys, tmp_path, weights):
    """Forbids a check that warns of what is usual: biases of zero, norms of one."""
    sound = {**weights, "blocks.0.self_attn.q.bias": torch.zeros(128)}
    assert faults(capsys, saved(tmp_path / "model.safetensors", sound)) == (0, [])
    assert weight_problems(sound, copies=True) == []


def test_a_file_whose_second_half_is_zeros(capsys, tmp_path, weights):
    """Forbids "all in order" for what a download leaves that was prepared and not filled."""
    path = saved(tmp_path / "model.safetensors", weights)
    content = path.read_bytes()
    for kept in (0.3, 0.5, 0.9, 0.98):
        half = int(len(content) * kept)
        path.write_bytes(content[:half] + bytes(len(content) - half))
        code, found = faults(capsys, path)
        assert code == 1 and found, kept
        assert "holds only zeros in" in found[0] or "holds zeros where numbers should be in 1 (" in found[0]
        assert str(path) in found[0] and "download the file again" in found[0]
        with pytest.raises(CheckpointError, match="zeros .*Nothing is written"):
            convert_model(path, tmp_path / "out.safetensors")
        assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({Q: torch.zeros(128, 128)}, f"holds only zeros in 1 ({Q})"),
        ({"blocks.1.modulation": torch.zeros(1, 6, 128)}, "holds only zeros in 1 (blocks.1.modulation)"),
        ({"blocks.1.norm3.weight": torch.zeros(128)}, "holds only zeros in 1 (blocks.1.norm3.weight)"),
        ({"head.head.weight": torch.zeros(64, 128)}, "holds only zeros in 1 (head.head.weight)"),
        ({Q: torch.full((128, 128), 0.1)}, f"holds one and the same number in 1 ({Q})"),
        ({Q: torch.full((128, 128), float("nan"))}, f"holds NaN or infinity in 1 ({Q})"),
        ({"blocks.0.ffn.0.bias": torch.full((32,), float("inf"))}, "holds NaN or infinity in 1 (blocks.0.ffn.0.bias)"),
        ({Q: torch.randn(128, 128) * 1e6}, f"holds numbers beyond 1000, which no trained model has, in 1 ({Q})"),
        ({Q: torch.randn(128, 128) * 1e-20}, f"holds only numbers below 1e-05, which have no effect, in 1 ({Q})"),
        ({Q: holed(torch.randn(128, 128), slice(60, 72))}, f"holds zeros where numbers should be in 1 ({Q})"),
        ({Q: torch.randn(128, 128).round().to(torch.int32)}, "weights that are not of a floating-point type"),
        ({Q: torch.randn(128, 128).round().to(torch.int8)}, f"not of a floating-point type: 1 ({Q} int8)"),
        ({Q: torch.randn(128, 128) > 0}, f"not of a floating-point type: 1 ({Q} bool)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_numbers_that_cannot_be(capsys, tmp_path, weights, changed, words):
    """Forbids "all in order" for damage that names and shapes do not show."""
    path = saved(tmp_path / "model.safetensors", {**weights, **changed})
    code, found = faults(capsys, path)
    assert code == 1 and len(found) == 1 and words in found[0], found
    with pytest.raises(CheckpointError):
        convert_model(path, tmp_path / "out.safetensors")


def test_copies_are_named(capsys, tmp_path, weights):
    """Forbids that a conversion which wrote one block twice passes."""
    block = {name.replace("blocks.1.", "blocks.2."): value for name, value in weights.items() if "blocks.1." in name}
    code, found = faults(capsys, saved(tmp_path / "model.safetensors", {**weights, **block}))
    assert code == 1 and "holds blocks that are copies: 1 (blocks.2 of blocks.1)" in found[0]
    one = {"blocks.0.self_attn.k.weight": weights[Q]}
    code, found = faults(capsys, saved(tmp_path / "model.safetensors", {**weights, **one}))
    assert (
        code == 1
        and f"the same numbers under two names: 1 (blocks.0.self_attn.q.weight = {next(iter(one))})"
        in found[0].replace(
            "blocks.0.self_attn.k.weight = blocks.0.self_attn.q.weight",
            "blocks.0.self_attn.q.weight = blocks.0.self_attn.k.weight",
        )
    )


def test_a_last_block_that_is_missing(capsys, tmp_path):
    """Forbids a model of 29 layers that runs and films nonsense: its width says how many there were."""
    weights = load_file(weights_folder() / DIT_FILE)
    blocks = {int(name.split(".")[1]) for name in weights if name.startswith("blocks.")}
    width, forward = weights["blocks.0.ffn.0.weight"].shape[::-1]
    assert (width, forward, len(blocks)) in module.SHAPES  # the built-in model
    rest = {name: value for name, value in weights.items() if not name.startswith(f"blocks.{max(blocks)}.")}
    code, found = faults(capsys, saved(tmp_path / "model.safetensors", rest))
    assert code == 1 and f"has {max(blocks)} layers, and models of its width have {len(blocks)}" in found[0]


def test_a_block_that_is_missing(capsys, tmp_path, weights):
    """Forbids a model that is built with fewer blocks."""
    rest = {name: value for name, value in weights.items() if not name.startswith("blocks.1.")}
    code, found = faults(capsys, saved(tmp_path / "model.safetensors", rest))
    assert code == 1 and "missing: 27 (blocks.1.cross_attn.k.bias" in found[0]


def test_zeros_in_the_vae_and_the_text_encoder(capsys, files, tmp_path):
    """Forbids that only the transformer is looked at."""
    for name, tensor in (("vae", "decoder.conv1.weight"), ("text_encoder", "shared.weight")):
        weights = load_file(files[name])
        path = tmp_path / f"{name}.safetensors"
        save_file({**weights, tensor: torch.zeros_like(weights[tensor])}, path, {"config": "{}"})
        (tmp_path / "tokenizer.json").write_bytes((files["vae"].parent / "tokenizer.json").read_bytes())
        code, found = faults(capsys, files["model"], None, f"--{name.replace('_', '-')}", str(path))
        assert code == 1 and "holds only zeros in" in found[0] and tensor in found[0]


# LoRA


def test_a_sound_lora_has_none(capsys, tmp_path, weights):
    """Forbids warnings of LoRAs that leave blocks out by choice."""
    model = saved(tmp_path / "model.safetensors", weights)
    lora = saved(tmp_path / "lora.safetensors", lora_file("diffusers", changes(weights)))
    assert faults(capsys, model, lora) == (0, [])
    parts = {f"blocks.{block}.ffn.0": LoraLayer(torch.rand(2, 8), torch.rand(8, 2), 2.0) for block in (0, 2, 4, 6, 8)}
    parts["blocks.0.norm3"] = Difference(torch.zeros(8))
    assert lora_problems(parts) == []


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda name, t: torch.zeros_like(t) if "lora_up" in name else t, (), "has no effect: only zeros in 36 ("),
        (lambda name, t: torch.zeros_like(t) if name.endswith("alpha") else t, (), "alpha 0, so no effect, in 36 ("),
        (lambda name, t: t, ("--lora-strength", "0"), "has no effect at strength 0"),
        (lambda name, t: t * 1e-30 if "lora_up" in name else t, (), "only numbers below 1e-12"),
        (lambda name, t: t * 1e-8, (), "changes nothing of the model: 36 ("),
        (lambda name, t: torch.full_like(t, float("nan")) if "lora_up" in name else t, (), "NaN or infinity in 36 ("),
        (lambda name, t: torch.ones_like(t) if "lora_down" in name else t, (), "one and the same number in 36 ("),
        (lambda name, t: torch.tensor(1e7) if name.endswith("alpha") else t, (), "outweighs the model by more"),
        (
            lambda name, t: torch.zeros_like(t) if "_1_self_attn_q.lora_up" in name else t,
            (),
            "so 1 of its 36 layers have no effect",
        ),
    ],
    ids=["up", "alpha", "strength", "tiny", "too small to count", "nan", "constant", "alpha too large", "one layer"],
)
def test_loras_without_effect_and_with_too_much(capsys, tmp_path, weights, change, options, words):
    """Forbids "merged into 36 of N tensors" for a LoRA that changes nothing, or destroys everything."""
    made = changes(weights)
    tensors = {name: change(name, value) for name, value in lora_file("kohya", made).items()}
    model = saved(tmp_path / "model.safetensors", weights)
    lora = saved(tmp_path / "lora.safetensors", tensors)
    code, found = faults(capsys, model, lora, *options)
    assert code == 1 and len(found) == 1 and words in found[0], found
    strength = float(options[1]) if options else 1.0
    with pytest.raises(CheckpointError, match="Nothing is written"):
        convert_model(model, tmp_path / "out.safetensors", lora=lora, strength=strength)
    assert not (tmp_path / "out.safetensors").exists()


def test_a_lora_of_which_a_block_is_lost(weights):
    """Forbids a damaged LoRA that is merged as if it had been trained that way."""
    parts = {
        f"blocks.{block}.ffn.0": LoraLayer(torch.rand(2, 8), torch.rand(8, 2), 2.0)
        for block in range(30)
        if block != 13
    }
    assert lora_problems(parts) == [
        "lacks layers between others that it has: 1 (blocks.13.ffn.0); download the file again"
    ]


# What was written is read again


def test_a_conversion_that_wrote_something_else_leaves_nothing(tmp_path, weights, monkeypatch):
    """Forbids "wrote" for a file that a faulty disk or library changed, and half of one beside the old."""
    model = saved(tmp_path / "model.safetensors", weights)
    lora = saved(tmp_path / "lora.safetensors", lora_file("kohya", changes(weights)))
    target = tmp_path / "out.safetensors"
    target.write_bytes(b"old")

    def faulty(tensors, path, metadata):
        name = sorted(tensors)[0]
        save_file({**tensors, name: tensors[name] + 1}, path, metadata)

    monkeypatch.setattr("longlive_core.checkpoints.tensor_files.save_file", faulty)
    for convert, source in ((convert_model, model), (convert_lora, lora)):
        with pytest.raises(CheckpointError, match=r"the conversion failed: .* in 1 \("):
            convert(source, target)
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "lora.safetensors",
        "model.safetensors",
        "out.safetensors",
    ]
