"""Encode and decode a shot piece by piece, with exactly the frames of one whole pass.

Protocol. The VAE's memory of past frames is one dictionary, `Memory`, from a causal convolution to the last frames it
saw. A pass over a piece of a shot reads and replaces entries; an empty memory starts a shot. Since each convolution
gets exactly the frames it would have seen, splitting into pieces changes only the order of floating-point sums (tests:
every partition equals the one-shot pass).

Two rules of Wan 2.1 are implemented only here:
- the first frame of a shot is never resampled in time: 1 latent frame <-> 1 pixel frame, every later one <-> 4;
- the decoder's time convolutions do not see that first frame either: their history starts with zeros after it.

The functions read names and call layer forwards, as `model/causal.py` does, so `module` may be the core's WanVAE or
ComfyUI's. Shapes: B batch, C channels, T frames, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..cancelling import cancellable
from ..device.placement import to_main_memory
from ..device.transfer import send
from .convolution import ConvolutionMode
from .module import LATENTS_MEAN, LATENTS_STD

Memory = dict[nn.Module, Tensor]


class DecoderMemory(Memory):
    """The memory of a decoder that decodes a shot's first frame alone, with the same bits as together with others.

    (The encoder always encodes it alone; its bits are those of the stored latents.)
    """


HISTORY = 2  # frames: every causal kernel of the VAE is 3 long in time
NORM_SCALE = 2.0**-6  # of a norm's input in float16: exact; 384 channels of the largest float16 number still fit
ENCODE_GROUP = 4  # pixel frames that make one latent frame


def _statistics(like: Tensor) -> tuple[Tensor, Tensor]:
    shape = (1, len(LATENTS_MEAN), 1, 1, 1)
    return (like.new_tensor(LATENTS_MEAN).view(shape), like.new_tensor(LATENTS_STD).view(shape))


def _causal(conv: nn.Module, x: Tensor, memory: Memory) -> Tensor:
    """Run a causal convolution on the frames x, after the frames that it saw before."""
    history = memory.get(conv)
    if history is None and isinstance(memory, DecoderMemory):
        y = conv(x, _first_past(conv, x))
    else:
        y = conv(x, history)
    if history is not None and x.shape[2] < HISTORY:
        memory[conv] = torch.cat([history[:, :, -1:], x], dim=2)
    else:
        memory[conv] = x[:, :, -HISTORY:].clone()  # a view would keep all of x alive
    return y


def _first_past(conv: nn.Module, x: Tensor) -> Tensor | None:
    """Return the frames before a shot's first piece: zeros, or None if the convolution pads them itself.

    ComfyUI's convolution, from 0.18 on, omits the zeros if it gets one frame, and sums in another order: in 16 bits a
    first frame alone would differ from the same frame with others after it.
    """
    alone = x.shape[2] == 1 and conv.kernel_size[0] > 1
    return x.new_zeros(1, 1, 1, 1, 1).expand(*x.shape[:2], HISTORY, *x.shape[3:]) if alone else None


def _layers(sequence: nn.Sequential, x: Tensor, memory: Memory) -> Tensor:
    for layer in sequence:
        if isinstance(layer, nn.Conv3d):
            x = _causal(layer, x, memory)
        else:
            x = layer(_for_norm(x) if hasattr(layer, "gamma") else x)
    return x


def _for_norm(x: Tensor) -> Tensor:
    """Return a norm's input, scaled down in float16 so that its sum of squares fits; the result is the same."""
    return x * NORM_SCALE if x.dtype is torch.float16 else x


def _attention(block: nn.Module, x: Tensor) -> Tensor:
    """Run attention inside a frame, which begins with a norm and adds its result to x; it has no memory."""
    if x.dtype is not torch.float16:
        return block(x)
    small = _for_norm(x)
    return x + (block(small) - small)


def _spatial(resample: nn.Module, x: Tensor) -> Tensor:
    b, c, t, h, w = x.shape
    y = resample(x.transpose(1, 2).reshape(b * t, c, h, w))
    return y.reshape(b, t, *y.shape[1:]).transpose(1, 2)


def _double_time(conv: nn.Module, x: Tensor, memory: Memory) -> Tensor:
    """Double the frames, [B, C, T, H, W] -> [B, C, 2T, H, W], but the shot's first frame passes through once."""
    first = x[:, :, :0]
    if conv not in memory:
        first, x = x[:, :, :1], x[:, :, 1:]
        memory[conv] = first.new_zeros(first.shape).expand(-1, -1, HISTORY, -1, -1)
    if not x.shape[2]:
        return first
    b, c, t, h, w = x.shape
    y = _causal(conv, x, memory).reshape(b, 2, c, t, h, w)
    y = torch.stack((y[:, 0], y[:, 1]), dim=3).reshape(b, c, 2 * t, h, w)
    return torch.cat([first, y], dim=2) if first.shape[2] else y


def _halve_time(conv: nn.Module, x: Tensor, memory: Memory) -> Tensor:
    """Halve the frames, [B, C, 2T, H, W] -> [B, C, T, H, W], but the shot's first frame passes through alone."""
    first = x[:, :, :0]
    if conv not in memory:
        first, x = x[:, :, :1], x[:, :, 1:]
        memory[conv] = first.clone()
    if not x.shape[2]:
        return first
    y = conv(torch.cat([memory[conv], x], dim=2))
    memory[conv] = x[:, :, -1:].clone()
    return torch.cat([first, y], dim=2) if first.shape[2] else y


def _block(block: nn.Module, x: Tensor, memory: Memory) -> Tensor:
    if hasattr(block, "residual"):
        return _layers(block.residual, x, memory) + block.shortcut(x)
    if hasattr(block, "resample"):
        if block.mode == "upsample3d":
            return _spatial(block.resample, _double_time(block.time_conv, x, memory))
        x = _spatial(block.resample, x)
        return _halve_time(block.time_conv, x, memory) if block.mode == "downsample3d" else x
    return _attention(block, x)


def _walk(blocks, x: Tensor, memory: Memory) -> Tensor:
    for block in blocks:
        x = _block(block, x, memory)
    return x


def _encode_piece(module: nn.Module, pixels: Tensor, memory: Memory) -> Tensor:
    encoder = module.encoder
    with ConvolutionMode():
        x = _causal(encoder.conv1, pixels, memory)
        x = _walk([*encoder.downsamples, *encoder.middle], x, memory)
        return module.conv1(_layers(encoder.head, x, memory))


def _decode_piece(module: nn.Module, latents: Tensor, memory: Memory) -> Tensor:
    decoder = module.decoder
    with ConvolutionMode():
        x = _causal(decoder.conv1, module.conv2(latents), memory)
        x = _walk([*decoder.middle, *decoder.upsamples], x, memory)
        return _layers(decoder.head, x, memory)


def encode(module: nn.Module, pixels: Tensor, group: int | None = ENCODE_GROUP) -> Tensor:
    """Encode the pixels of a shot to normalised latents (the mean of the posterior).

    Args:
        module: the VAE, on the device and in the dtype of `pixels`.
        pixels: [B, 3, T, H, W] in [-1, 1], T = 1 + 4 n, H and W multiples of 8.
        group: pixel frames per pass after the first frame (a multiple of 4, limits the memory); None: all at once.

    Returns:
        [B, 16, 1 + n, H / 8, W / 8], zero mean and unit variance over Wan's training data.
    """
    frames, height, width = pixels.shape[2:]
    if frames % ENCODE_GROUP != 1 or height % 8 or width % 8:
        raise ValueError(
            f"cannot encode {frames} frames of {width}x{height}: the VAE takes 1 + 4 n frames "
            "whose width and height are multiples of 8; trim or pad the clip"
        )
    memory: Memory = {}
    pieces = [pixels] if group is None else [pixels[:, :, :1], *pixels[:, :, 1:].split(group, dim=2)]
    encoded = [_encode_piece(module, piece, memory) for piece in cancellable(pieces) if piece.shape[2]]
    encoded = torch.cat(encoded, dim=2)
    mean, std = _statistics(encoded)
    return (encoded.chunk(2, dim=1)[0] - mean) / std


def decode(module: nn.Module, latents: Tensor) -> Tensor:
    """Decode a whole shot in one pass: [B, 16, T, h, w] normalised -> [B, 3, 4T - 3, 8h, 8w] in about [-1, 1]."""
    mean, std = _statistics(latents)
    return _decode_piece(module, latents * std + mean, {})


class StreamingDecoder:
    """Decodes a shot piece by piece and owns the VAE's memory between the pieces.

    Args:
        module: the VAE (the core's WanVAE or ComfyUI's).
        dtype: to compute in; by default that of the module's weights. Latents may have any dtype.
        device: where the module computes; by default the device of its weights.

    It decodes one latent frame at a time and replaces its memory as it proceeds. So besides that memory (one to two
    frames per causal convolution, 1.9 GB in bf16 at 832x480 for Wan 2.1, for any length of film) only the activations
    of four pixel frames exist. Call `reset()` at a cut; deleting the decoder frees the memory.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype | None = None, device: torch.device | None = None):
        weight = next(module.parameters())
        self.module = module
        self.dtype = dtype or weight.dtype
        self.device = device or weight.device
        self._memory: Memory = DecoderMemory()
        self._offloaded = False  # the memory is offloaded to main memory
        self._latent_statistics: tuple[Tensor, Tensor] | None = None  # mean and standard deviation of the latents
        self._interrupted = False  # a call was interrupted, so the memory is inconsistent

    @property
    def width(self) -> int:
        """Width of the layer next to the pixels: 96 channels in Wan 2.1."""
        return self.module.decoder.head[0].gamma.shape[0]

    def reset(self) -> None:
        """Clear the memory: the next latents begin a shot."""
        self._memory, self._interrupted, self._offloaded = DecoderMemory(), False, False

    def use_float32(self) -> None:
        """Compute in float32 from now on, without converting the stored weights; begins a shot.

        For a shot whose numbers exceed float16. The memory then takes twice the space on the device.
        """
        self.dtype = torch.float32
        self.reset()

    @property
    def allocated(self) -> int:
        """Bytes of the memory on the device now; see `device/placement.py`."""
        return 0 if self._offloaded else sum(tensor.nbytes for tensor in self._memory.values())

    def offload(self) -> None:
        """Offload the VAE's memory to main memory, between two chunks."""
        if not self._offloaded:
            for conv, tensor in self._memory.items():  # one by one, so that only one is in both places at a time
                self._memory[conv] = to_main_memory(tensor)
            self._offloaded = True

    def reload(self) -> None:
        """Move the VAE's memory back to the device."""
        if self._offloaded:
            for conv, tensor in self._memory.items():
                self._memory[conv] = tensor.to(self.device, non_blocking=True)
            self._offloaded = False

    def decode(self, latents: Tensor) -> Tensor:
        """Decode the next latent frames of the shot.

        Args:
            latents: [B, 16, T, h, w], normalised, T >= 1.

        Returns:
            Float pixels [B, 3, 4T (4T - 3 at the start of a shot), 8h, 8w], about [-1, 1], not clamped.

        If a layer raises (an interrupt, out of memory), the VAE's memory is lost: until `reset()` every call raises
        RuntimeError. The shot's last 40 latent frames, decoded again, restore it (`film/decoding.py`).
        """
        if self._interrupted:
            raise RuntimeError("a decode was interrupted: reset() the decoder and decode the earlier frames again")
        self.reload()
        self._interrupted = True
        pixels = [self._decode_frame(frame) for frame in latents.split(1, dim=2)]
        self._interrupted = False
        return torch.cat(pixels, dim=2)

    def _decode_frame(self, latent: Tensor) -> Tensor:
        latent = send(latent.float(), self.device)
        if self._latent_statistics is None:  # sent to the device once
            with torch.inference_mode(False):
                self._latent_statistics = _statistics(torch.empty((), device=self.device))
        mean, std = self._latent_statistics
        raw = (latent * std + mean).to(self.dtype)
        return _decode_piece(self.module, raw, self._memory)
