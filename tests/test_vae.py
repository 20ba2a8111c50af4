"""The VAE: the reference's numbers, and the promise that splitting a shot changes nothing."""

import pytest
import torch
from safetensors import safe_open

from longlive_core.vae import StreamingDecoder, WanVAE, decode, encode

FILE = "tests/fidelity/vae.safetensors"


@pytest.fixture(scope="module")
def golden(request):
    with safe_open(request.config.rootpath / FILE, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    weights = {key[4:]: value for key, value in tensors.items() if key.startswith("vae.")}
    return WanVAE.from_state_dict(weights).requires_grad_(False), tensors


@pytest.fixture(scope="module")
def double(golden):
    """The same weights in float64, where reordered sums leave no doubt."""
    import copy

    return copy.deepcopy(golden[0]).double()


@pytest.mark.parametrize("pieces", [[7], [1] * 7, [3, 3, 1], [2, 1, 4], [1, 2, 2, 2]], ids=str)
def test_any_split_of_a_shot_decodes_to_the_same_frames(golden, double, pieces):
    latents = golden[1]["latents"].double()
    decoder = StreamingDecoder(double)
    frames = torch.cat([decoder.decode(piece).double() for piece in latents.split(pieces, dim=2)], dim=2)
    whole = decode(double, latents)
    assert frames.shape[2] == 25
    # StreamingDecoder normalises in float32; compare with a decode of the same rounding.
    assert (frames - whole).abs().max() < 2e-6


@pytest.mark.parametrize("pieces", [[3, 3, 1], [1, 2, 2, 2]], ids=str)
def test_streaming_decode_is_within_the_fidelity_bound(golden, pieces):
    vae, tensors = golden
    decoder = StreamingDecoder(vae)
    frames = torch.cat([decoder.decode(piece) for piece in tensors["latents"].split(pieces, dim=2)], dim=2)
    assert (frames - tensors["decoded"]).abs().max() <= 1e-4


@pytest.mark.parametrize("group", [None, 4, 8])
def test_encode_is_within_the_fidelity_bound_however_it_is_grouped(golden, group):
    vae, tensors = golden
    assert (encode(vae, tensors["frames"], group) - tensors["encoded"]).abs().max() <= 1e-4


def test_reset_starts_a_new_shot(golden):
    vae, tensors = golden
    decoder = StreamingDecoder(vae)
    first = decoder.decode(tensors["latents"][:, :, :3])
    decoder.decode(tensors["latents"][:, :, 3:5])
    decoder.reset()
    assert torch.equal(decoder.decode(tensors["latents"][:, :, :3]), first)


def fail_at(vae, frame):
    """Raise KeyboardInterrupt in the head when it runs for the `frame`th time from now; call the result to stop."""
    runs = []

    def count(*_):
        runs.append(0)
        if len(runs) == frame:
            raise KeyboardInterrupt

    return vae.decoder.head[2].register_forward_hook(count).remove


def test_an_interrupted_decoder_is_not_used_again(golden):
    """Forbids frames decoded with a memory that partly belongs to the next frame."""
    vae, tensors = golden
    decoder = StreamingDecoder(vae)
    decoder.decode(tensors["latents"][:, :, :3])
    stop = fail_at(vae, 2)
    with pytest.raises(KeyboardInterrupt):
        decoder.decode(tensors["latents"][:, :, 3:5])
    stop()
    with pytest.raises(RuntimeError, match=r"interrupted: reset\(\)"):
        decoder.decode(tensors["latents"][:, :, 3:5])
    decoder.reset()
    again = decoder.decode(tensors["latents"][:, :, :5])
    assert (again - tensors["decoded"][:, :, :17]).abs().max() <= 1e-4


def test_a_clip_the_vae_cannot_take_is_refused_with_its_numbers(golden):
    with pytest.raises(ValueError, match=r"6 frames of 48x32.*1 \+ 4 n"):
        encode(golden[0], torch.zeros(1, 3, 6, 32, 48))
