"""Which library computes the VAE's convolutions on a CPU, and that it changes nothing but the order of sums."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from longlive_core.checkpoints.built_in import VAE_FILE, weights_folder
from longlive_core.run.pipeline import load_vae
from longlive_core.vae import StreamingDecoder, WanVAE, encode
from longlive_core.vae.convolution import ConvolutionMode, worth_onednn
from longlive_core.vae.module import CausalConv3d

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")


class Operations(TorchDispatchMode):
    """Floating-point operations of 3D convolutions: those that oneDNN was called for, and the others."""

    def __init__(self):
        super().__init__()
        self.direct = self.others = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        name = function.__name__.split(".")[0]
        if name in ("convolution", "mkldnn_convolution") and arguments[0].ndim == 5:
            operations = 2 * arguments[1].numel() * result[0, 0].numel()
            if name == "mkldnn_convolution":
                self.direct += operations
            else:
                self.others += operations
        return result


@pytest.fixture(scope="module")
def pocket_vae():
    return load_vae(weights_folder() / VAE_FILE, torch.device("cpu"), torch.float32)


@needs_onednn
@pytest.mark.parametrize("way", ["decode", "encode"])
def test_nearly_all_work_of_the_pocket_vae_goes_to_onednn(pocket_vae, way):
    """Forbids PyTorch's slow convolution, which takes three to ten times as long on these shapes."""
    with torch.no_grad(), Operations() as count:
        if way == "decode":
            StreamingDecoder(pocket_vae).decode(torch.randn(1, 16, 3, 10, 16))
        else:
            encode(pocket_vae, torch.rand(1, 3, 9, 80, 128))
    assert count.direct > 0.95 * (count.direct + count.others)


@needs_onednn
@pytest.mark.parametrize("history", [0, 1, 2])
def test_the_result_is_that_of_pytorch(history):
    torch.manual_seed(0)
    conv = CausalConv3d(32, 48, 3, padding=1).requires_grad_(False)
    x, past = torch.randn(1, 32, 2, 12, 20), torch.randn(1, 32, history, 12, 20) if history else None
    with ConvolutionMode(), Operations() as count:
        fast = conv(x, past)
    assert count.direct and not count.others
    assert (fast - conv(x, past)).abs().max() < 1e-4 * fast.abs().max()


@needs_onednn
def test_training_gets_the_same_gradients():
    torch.manual_seed(0)
    conv, gradients = CausalConv3d(32, 48, 3, padding=1), []
    for mode in (ConvolutionMode, torch.enable_grad):
        x = torch.randn(1, 32, 3, 12, 20, generator=torch.Generator().manual_seed(1)).requires_grad_()
        with mode():
            (conv(x) ** 2).sum().backward()
        gradients.append([x.grad, conv.weight.grad.clone(), conv.bias.grad.clone()])
        conv.zero_grad()
    for ours, theirs in zip(*gradients, strict=True):
        assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


@needs_onednn
def test_a_layer_that_makes_its_weight_anew_at_each_use_is_taken_at_its_word():
    """Forbids reading a layer's stored weight: hosts cast it, patch it or bring it from elsewhere for each call."""

    class Doubling(nn.Conv3d):
        def forward(self, x):
            return self._conv_forward(x, self.weight * 2, self.bias)

    conv, x = Doubling(16, 16, 3).requires_grad_(False), torch.randn(1, 16, 4, 20, 30)
    with ConvolutionMode():
        assert (conv(x) - torch.conv3d(x, conv.weight * 2, conv.bias)).abs().max() < 1e-4


def test_what_pytorch_does_well_stays_with_it():
    """Forbids oneDNN for kernels that are one matrix product (the patch embedding takes four times as long there),
    for tiny ones, and for whatever is no float32 convolution of one film on a CPU."""
    weight = torch.empty(32, 32, 3, 3, 3)
    assert worth_onednn(torch.empty(1, 32, 4, 42, 66), weight) is torch.backends.mkldnn.is_available()
    assert not worth_onednn(torch.empty(1, 32, 4, 42, 66), torch.empty(32, 32, 3, 1, 1))
    assert not worth_onednn(torch.empty(1, 32, 3, 4, 6), weight)
    assert not worth_onednn(torch.empty(2, 32, 4, 42, 66), weight)
    assert not worth_onednn(torch.empty(1, 32, 4, 42, 66, device="meta"), weight)
    assert not worth_onednn(torch.empty(1, 32, 4, 42, 66, dtype=torch.bfloat16), weight.bfloat16())
    assert not worth_onednn(torch.empty(1, 32, 4, 420, 66), weight)  # PyTorch sends it there by itself


def test_other_convolutions_pass_through_unchanged():
    patch, x = nn.Conv3d(16, 64, (1, 2, 2), stride=(1, 2, 2)).requires_grad_(False), torch.randn(1, 16, 3, 20, 32)
    with ConvolutionMode():
        assert torch.equal(patch(x), torch.conv3d(x, patch.weight, patch.bias, (1, 2, 2)))


def test_a_tiny_vae_decodes_alike_in_one_piece_and_frame_by_frame():
    """The choice follows from shapes, so the same frames in the same pieces give the same bits."""
    torch.manual_seed(0)
    decoder, latents = StreamingDecoder(WanVAE(dim=8).requires_grad_(False)), torch.randn(1, 16, 4, 6, 8)
    whole = decoder.decode(latents)
    decoder.reset()
    assert torch.equal(torch.cat([decoder.decode(piece) for piece in latents.split([1, 2, 1], dim=2)], dim=2), whole)
