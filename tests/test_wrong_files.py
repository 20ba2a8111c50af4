"""Files of another model, each given where people give it by mistake: the error says what it is and what to take."""

import pytest
from safetensors.torch import load_file, save_file

from longlive_core.checkpoints import CheckpointError, load_lora, load_state_dict, load_vae, merge_lora, unsuitable
from longlive_core.checkpoints.text_encoder import TextEncoder
from tests import wrong_files
from tests.conftest import SMALL

LORAS = wrong_files.loras(SMALL.dim)


def refusal(tmp_path, name, tensors, load):
    path = tmp_path / name
    save_file(tensors, path)
    with pytest.raises(CheckpointError) as error:
        load(path)
    assert str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", wrong_files.MODELS)
def test_models_that_are_not_longlives(tmp_path, name):
    """Forbids a shape error, or a film of noise, for SD, 14B, I2V, VACE and LongLive 2.0."""
    tensors, words = wrong_files.MODELS[name]
    text = refusal(tmp_path, name, tensors, load_state_dict)
    assert words in text and "LongLive loads longlive_base.pt" in text


@pytest.mark.parametrize("name", wrong_files.VAES)
def test_vaes_of_other_models(tmp_path, name):
    """Forbids colours from the wrong decoder."""
    tensors, words = wrong_files.VAES[name]
    text = refusal(tmp_path, name, tensors, load_vae)
    assert words in text and "Use Wan2.1_VAE.pth or ComfyUI's wan_2.1_vae.safetensors" in text


@pytest.mark.parametrize("name", wrong_files.TEXT_ENCODERS)
def test_text_encoders_of_other_models(tmp_path, name):
    """Forbids prompts that mean nothing to the model."""
    tensors, words = wrong_files.TEXT_ENCODERS[name]
    text = refusal(tmp_path, name, tensors, TextEncoder.load)
    assert words in text and "Use Wan's models_t5_umt5-xxl-enc-bf16.pth or ComfyUI's umt5_xxl_fp16" in text


@pytest.mark.parametrize("name", LORAS)
def test_loras_that_do_not_fit(tmp_path, files, name):
    """Forbids a LoRA that changes nothing, or half of the model, silently."""
    tensors, words = LORAS[name]
    weights = load_file(files["model"])

    def merge(path):
        merge_lora(weights, load_lora(path), path=path)

    text = refusal(tmp_path, name, tensors, merge)
    assert words in text
    assert "Use LongLive's lora.pt here" in text or "is not a LoRA" in text


def test_live_modules_are_recognised_by_their_parts():
    """Forbids that a VACE or 14B MODEL of ComfyUI's own loaders is treated as LongLive because of its attributes."""
    parts = {"patch_embedding", "blocks", "head"}
    assert unsuitable(parts, 16, 1536, 30) is None
    assert unsuitable(parts, 16, 256, 6) is None  # the built-in model
    assert "VACE" in unsuitable({*parts, "vace_blocks"}, 16, 1536, 30)
    assert "I2V" in unsuitable({*parts, "img_emb"}, 36, 1536, 30)
    assert "32 input channels" in unsuitable(parts, 32, 1536, 30)
    assert "Wan 14B (width 5120, 40 layers)" in unsuitable(parts, 16, 5120, 40)
