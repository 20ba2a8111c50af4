"""The shipped files: size, shapes that hosts of Wan 2.1 recognise, and that they load and make film."""

import json

import pytest
import torch
from safetensors import safe_open

from longlive_core.checkpoints.built_in import DIT_FILE, TEXT_ENCODER_FILE, TOKENIZER_FILE, VAE_FILE, weights_folder
from longlive_core.config import ModelConfig
from longlive_core.vae import StreamingDecoder, WanVAE, encode


def _read(name: str) -> tuple[dict, dict]:
    with safe_open(str(weights_folder() / name), "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118 - not a dictionary


def test_the_files_are_small_enough_to_ship():
    """Forbids a repository that grows past what the pocket model may weigh."""
    names = (DIT_FILE, VAE_FILE, TEXT_ENCODER_FILE, TOKENIZER_FILE)
    assert sum((weights_folder() / name).stat().st_size for name in names) <= 24_000_000


@pytest.mark.parametrize("name", [DIT_FILE, VAE_FILE, TEXT_ENCODER_FILE])
def test_weights_are_finite_bfloat16(name):
    """Forbids a broken export."""
    weights, metadata = _read(name)
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    assert all(value.isfinite().all() for value in weights.values())
    assert "longlive_core.pocket.train" in metadata["made_by"]


def test_the_transformer_has_the_shapes_that_hosts_assume():
    """Forbids a file that ComfyUI's UNETLoader takes for another model: what it cannot read off must be Wan's."""
    weights, _ = _read(DIT_FILE)
    config = ModelConfig.from_state_dict(weights)
    assert "head.modulation" in weights
    assert config.head_dim == 128 and config.freq_dim == 256 and config.text_dim == 4096
    assert config.patch_size == (1, 2, 2) and config.in_dim == config.out_dim == 16


def test_the_vae_has_the_shapes_that_hosts_assume():
    """Forbids a file that ComfyUI's VAELoader takes for another VAE."""
    weights, _ = _read(VAE_FILE)
    assert "decoder.middle.0.residual.0.gamma" in weights
    assert "decoder.upsamples.0.upsamples.0.residual.2.weight" not in weights
    assert weights["conv2.weight"].shape[:2] == (16, 16)
    WanVAE.from_state_dict(weights)  # strict


def test_latents_are_normalised_by_wans_constants():
    """Forbids weights whose latents a host would hand to the transformer off-centre or out of scale."""
    import numpy as np

    from longlive_core.pocket.clip_pool import pixels_of
    from longlive_core.toybox import world

    vae = WanVAE.from_state_dict(_read(VAE_FILE)[0]).float()
    rng = np.random.default_rng(11)
    with torch.no_grad():
        films = [world.film([(0, world.random_attributes(rng))], 5, seed)[0] for seed in range(12)]
        latents = encode(vae, pixels_of(np.stack(films)))
    assert abs(float(latents.mean())) < 0.2 and 0.7 < float(latents.std()) < 1.3


def test_the_vae_gives_a_picture_back():
    """Forbids a VAE that lost its colours or its subject, for example by a wrong fold of the latents' statistics."""
    import numpy as np

    from longlive_core.pocket.clip_pool import pixels_of
    from longlive_core.toybox import world

    vae = WanVAE.from_state_dict(_read(VAE_FILE)[0]).float()
    look = world.Attributes("red", "ball", "right", "sea")
    pixels = pixels_of(world.film([(0, look)], 9, seed=1)[0][None])
    with torch.no_grad():
        again = StreamingDecoder(vae).decode(encode(vae, pixels))
    psnr = -10 * np.log10(float(((again.clamp(-1, 1) - pixels) / 2).square().mean()))
    assert psnr > 19  # measured 22.4; a wrong fold gives about 10


def test_the_text_encoder_states_its_configuration():
    """Forbids a text encoder that cannot be built from its file alone."""
    weights, metadata = _read(TEXT_ENCODER_FILE)
    config = json.loads(metadata["config"])
    assert config["d_model"] == weights["shared.weight"].shape[1] <= 4096
    assert int(metadata["text_len"]) == 32
    vocabulary = json.loads((weights_folder() / TOKENIZER_FILE).read_text(encoding="utf-8"))["model"]["vocab"]
    assert max(vocabulary.values()) < weights["shared.weight"].shape[0]
