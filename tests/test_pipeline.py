"""Loading a whole pipeline from files, and the errors on the way."""

import pytest
import torch

from longlive_core.checkpoints import CheckpointError, load_lora, merge_lora
from longlive_core.checkpoints.built_in import DIT_FILE, weights_folder
from longlive_core.checkpoints.text_encoder import TextEncoder
from longlive_core.config import PRESETS
from longlive_core.device import precision
from longlive_core.run import pipeline as module
from longlive_core.run.pipeline import Pipeline, is_pocket


def test_a_pipeline_from_files_makes_pixels(files):
    """Forbids parts that do not meet: the context's width, the latents' shape, devices and dtypes."""
    from longlive_core.engine.noise import AddressedNoise
    from longlive_core.engine.rollout import rollout
    from longlive_core.engine.shot import PromptSpan

    pipe = Pipeline.load(**files, dtype="fp32", device="cpu")
    contexts = pipe.encode(["ball", "ball ball", "ball"])
    assert list(contexts) == ["ball", "ball ball"] and contexts["ball"].shape == (1, 6, 4096)
    (chunk,) = rollout(pipe.model, [PromptSpan(0, contexts["ball"])], 1, (2, 4), pipe.stream, AddressedNoise(0))
    assert pipe.decoder.decode(chunk.latents).shape == (1, 3, 9, 16, 32)


def test_the_text_encoder_rests_on_the_cpu(files, monkeypatch):
    """Forbids 11 GB of text encoder left on the GPU, also when encoding fails."""
    pipe = Pipeline.load(**files, device="cpu")
    visited = []
    monkeypatch.setattr(pipe.text, "to", lambda device: visited.append(str(device)) or pipe.text)
    pipe.device = torch.device("meta")
    pipe.encode(["ball"])
    assert visited == ["meta", "cpu"]
    monkeypatch.setattr(pipe.text, "encode", lambda texts: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pipe.encode(["ball"])
    assert visited == ["meta", "cpu"] * 2


def test_a_text_encoder_that_does_not_fit_stays_on_the_cpu(files, monkeypatch, caplog):
    """Forbids that a GPU with room for the model fails for the prompts, and a slow detour that is not reported."""
    pipe = Pipeline.load(**files, device="cpu")
    visited = []
    monkeypatch.setattr(pipe.text, "to", lambda device: visited.append(str(device)) or pipe.text)
    pipe.device = torch.device("meta")
    size = module.weight_bytes(pipe.text.model)
    for free, device in ((size, "meta"), (size - 1, "cpu")):
        monkeypatch.setattr(module, "free_memory", lambda device, free=free: free)
        pipe.encode(["ball"])
        assert visited[-2:] == [device, "cpu"]
    (record,) = caplog.records
    assert "does not fit beside the model on meta" in record.getMessage() and "on the CPU" in record.getMessage()


def test_presets_and_sizes(files):
    """Forbids LongLive's window on a Self-Forcing model that needs its own, and an unknown preset passed over."""
    assert Pipeline.load(**files).stream == PRESETS["longlive-1.3b"]
    assert Pipeline.load(**files).default_size == (832, 480)
    assert Pipeline.load(**files, preset="self-forcing").stream == PRESETS["self-forcing"]
    with pytest.raises(CheckpointError, match="no `generator_ema`"):
        Pipeline.load(**files, prefer_ema=True)
    with pytest.raises(ValueError, match="unknown preset 'best': allowed are longlive-1.3b"):
        Pipeline.load(**files, preset="best")


def test_dtype_follows_the_device(files, monkeypatch):
    """Forbids bfloat16 on a CPU that only emulates it, and an unknown dtype passed over."""
    for fast, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(precision, "cpu_computes_bf16", lambda fast=fast: fast)
        pipe = Pipeline.load(**files, device="cpu")
        assert pipe.model.dtype == pipe.decoder.dtype == expected
    assert Pipeline.load(**files, device="cpu", dtype="bf16").model.dtype == torch.bfloat16
    assert Pipeline.load(**files, device="cpu", dtype=torch.float16).model.dtype == torch.float16
    with pytest.raises(ValueError, match="unknown dtype 'half': allowed are auto, bf16"):
        Pipeline.load(**files, dtype="half")


def test_a_lora_is_merged_at_load(files, tmp_path):
    """Forbids a LoRA argument that is read and not applied."""
    layer = "blocks.0.self_attn.q"
    lora = {
        f"base_model.model.{layer}.lora_A.weight": torch.ones(2, 128),
        f"base_model.model.{layer}.lora_B.weight": torch.ones(128, 2),
    }
    torch.save(lora, tmp_path / "lora.pt")
    plain = Pipeline.load(**files, dtype="fp32")
    merged = Pipeline.load(**files, lora=tmp_path / "lora.pt", lora_alpha=1, lora_strength=0.5, dtype="fp32")
    expected = merge_lora(plain.model.module.state_dict(), load_lora(tmp_path / "lora.pt", 1), 0.5)
    assert torch.equal(merged.model.module.state_dict()[f"{layer}.weight"], expected[f"{layer}.weight"])
    assert not torch.equal(plain.model.module.state_dict()[f"{layer}.weight"], expected[f"{layer}.weight"])


def test_missing_files_are_requested_by_name(files):
    """Forbids loading a 5 GB model first and failing then, and an error that does not say where files come from."""
    with pytest.raises(CheckpointError) as error:
        Pipeline.load("no_such_model.pt")
    text = str(error.value)
    assert "models_t5_umt5-xxl-enc-bf16.pth (Wan-AI/Wan2.1-T2V-1.3B)" in text and "wan_2.1_vae.safetensors" in text
    with pytest.raises(CheckpointError) as error:
        Pipeline.load(files["model"], text_encoder=files["text_encoder"])
    assert "Give vae:" in str(error.value) and "umt5" not in str(error.value)
    with pytest.raises(CheckpointError, match=r"there is no file for vae \(nowhere.pth\)"):
        Pipeline.load(files["model"], text_encoder=files["text_encoder"], vae="nowhere.pth")


def test_the_pocket_brings_everything(files, folder, monkeypatch, tmp_path):
    """Forbids requiring files with the built-in model, and full-size defaults for it."""
    for source, name in (
        ("dit", module.DIT_FILE),
        ("vae", module.VAE_FILE),
        ("text", "pocket_text_encoder.safetensors"),
    ):
        (tmp_path / name).write_bytes((folder / f"{source}.safetensors").read_bytes())
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    monkeypatch.setattr(module, "weights_folder", lambda: tmp_path)
    monkeypatch.setattr("longlive_core.checkpoints.text_encoder.encoder.weights_folder", lambda: tmp_path)
    pipe = Pipeline.load()
    assert pipe.stream == PRESETS["pocket"] and pipe.default_size != (832, 480)
    assert pipe.text.model.dtype == torch.float32
    assert TextEncoder.load("pocket").encode(["ball"]).shape == (1, 6, 4096)


def test_what_the_pockets_training_made_needs_no_other_file(files, tmp_path, monkeypatch):
    """Forbids requiring files that no checkpoint of the pocket model has, and giving its small ones to another."""
    trained = tmp_path / "student.safetensors"
    trained.write_bytes((weights_folder() / DIT_FILE).read_bytes())
    pipe = Pipeline.load(trained)
    assert pipe.stream == PRESETS["pocket"] and pipe.default_size == (128, 80)
    (tmp_path / "broken.safetensors").write_bytes(trained.read_bytes()[:100])
    for other in (files["model"], files["vae"], tmp_path / "broken.safetensors", tmp_path / "nowhere.safetensors"):
        assert not is_pocket(other)
    monkeypatch.setattr("longlive_core.checkpoints.built_in.weights_folder", lambda: tmp_path / "gone")
    assert not is_pocket(tmp_path / "broken.safetensors")
