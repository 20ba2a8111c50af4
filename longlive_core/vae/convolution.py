"""Run float32 3D convolutions on a CPU with oneDNN where it is faster than PyTorch's own choice.

For batch 1 PyTorch (2.13) uses oneDNN for a float32 3D convolution only if batch x channels x frames x height of its
input exceed 20,480; the rule, meant for images, ignores the width. Smaller ones go to `slow_conv3d`, which copies every
patch before it multiplies: 3 to 100 GFLOP/s, where oneDNN reaches 130 to 190 on the same tensors in channels-last
layout (two AVX2 cores). All convolutions of the pocket model's decoder are that small.

Which is faster depends on the kernel. A kernel that does not overlap itself in space (1x1, and the transformer's patch
embedding, whose stride is its size) is already one matrix product, and a tiny convolution ends before oneDNN has
started: both stay with PyTorch (the patch embedding would take four times as long). The choice depends on shapes only,
so equal inputs give equal bits.

This uses a PyTorch function mode: it replaces `torch.conv3d` while a layer's forward runs. So weights that a host
casts, patches or loads at each use arrive here as the layer prepared them. The same mode lets 16-bit weights compute
in float32 if a decoder needs it (`StreamingDecoder.use_float32`).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_PYTORCH_LIMIT = 20480  # above this PyTorch uses oneDNN itself, see above
_WORTH_IT = 2e6  # floating-point operations; below, oneDNN's preparations take longer than it saves


class ConvolutionMode(TorchFunctionMode):
    """Change the convolutions inside a `with` block.

    Convolutions with float32 input compute in float32 even if their weights are in 16 bits; 3D convolutions in float32
    on a CPU use oneDNN where that is faster.
    """

    def __torch_function__(self, function, types, arguments=(), options=None):
        if function in (torch.conv3d, torch.conv2d):
            return (_conv3d if function is torch.conv3d else torch.conv2d)(*_as_input(*arguments), **(options or {}))
        return function(*arguments, **(options or {}))


def _as_input(input: Tensor, weight: Tensor, bias: Tensor | None = None, *rest):
    """Return a convolution's arguments, with weight and bias in float32 if the input is."""
    if input.dtype is torch.float32 and weight.dtype in (torch.float16, torch.bfloat16):
        weight, bias = weight.float(), None if bias is None else bias.float()
    return input, weight, bias, *rest


def _conv3d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride=1, padding=0, dilation=1, groups=1):
    if not (
        groups == 1 and _plain(stride, 1) and _plain(padding, 0) and _plain(dilation, 1) and worth_onednn(input, weight)
    ):
        return torch.conv3d(input, weight, bias, stride, padding, dilation, groups)
    # Activations keep this layout from here on, so only the first convolution of a pass rearranges them.
    input = input.contiguous(memory_format=torch.channels_last_3d)
    return torch.mkldnn_convolution(input, weight, bias, (0, 0, 0), (1, 1, 1), (1, 1, 1), 1)


def _plain(given, value: int) -> bool:
    return given == value or (isinstance(given, (tuple, list)) and all(each == value for each in given))


def worth_onednn(input: Tensor, weight: Tensor) -> bool:
    """Return whether calling oneDNN directly is faster for this convolution [1, C, T, H, W] without padding."""
    if input.device.type != "cpu" or input.dtype is not torch.float32 or not torch.backends.mkldnn.is_available():
        return False
    batch, channels, frames, height, width = input.shape
    if batch != 1 or channels * frames * height > _PYTORCH_LIMIT:
        return False
    kernel = weight.shape[2:]
    if kernel[1] == 1 and kernel[2] == 1:
        return False
    places = (frames - kernel[0] + 1) * (height - kernel[1] + 1) * (width - kernel[2] + 1)
    return 2 * weight.numel() * places >= _WORTH_IT
