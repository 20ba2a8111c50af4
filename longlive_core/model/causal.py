"""The causal forward, as a function over Wan's named submodules.

It works with any module with Wan 2.1's names: the core's WanModel, ComfyUI's own WAN21 model from any of its loaders
(with LoRA patches, offloading, fp8 or GGUF weights), or a quantised one. It calls the submodules' forwards and never
reads a `.weight`; `modulation` is a bare parameter and is cast at each use.

What makes the model causal is not here but in `attend`, a function of the caller: it receives each layer's queries,
keys and values and decides which keys and values are attended to. The rollout's `attend` writes them to the rolling
cache; training's `attend` splits a clip into chunks. Both share this forward.

Shapes: B batch, C channels, T latent frames, h and w latent size, L = T * tokens of a frame, N heads of D.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..config import ModelConfig
from ..device.transfer import send
from .attention import Attention, default_attention

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, q, k, v), each [B, L, N, D] and not yet rotated -> [B, L, N, D]."""

PromptKeys = list[tuple[Tensor, Tensor]]
"""Cross-attention keys and values of one prompt, one pair per layer, each [B * groups, text tokens, N, D]."""


NORM_SCALE = 2.0**-4  # scales a stream that does not fit into float16; exact, and far above LayerNorm's epsilon
MOST_TIMESTEPS = 100  # embeddings kept; a schedule has at most half as many timesteps
_HAVE_FLOAT64 = ("cpu", "cuda", "meta")  # kinds of device; on Apple's and Intel's it raises


def sinusoidal_embedding(timesteps: Tensor, dim: int) -> Tensor:
    """Return Wan's embedding of timesteps: [...] -> [..., dim], cosines then sines, float32.

    It is computed on the device of the timesteps, or on the CPU if that device has no float64.
    """
    half, place = dim // 2, timesteps.device
    if place.type not in _HAVE_FLOAT64:
        timesteps = timesteps.cpu()
    exponents = torch.arange(half, dtype=torch.float64, device=timesteps.device) / half
    angles = timesteps.double()[..., None] * 10000.0**-exponents
    return torch.cat([angles.cos(), angles.sin()], dim=-1).float().to(place)


class CausalWan:
    """A Wan 2.1 transformer bound to an attention, a device and a dtype.

    Args:
        module: any module with Wan's named submodules.
        config: its shape; by default read from the module's attributes.
        attention: see `attention.py`.
        device, dtype: where and in what to compute; by default those of the patch embedding's weight.
        patch_dtype: the patch embedding's input dtype, if it differs: ComfyUI keeps that layer in float32, whatever
            the dtype of the others.

    In float16, whose largest number is 65504, the residual stream is float32, because it grows from block to block.
    The input of every layer is in `dtype` (except LayerNorms without weights, which take any dtype).
    """

    def __init__(
        self,
        module: Any,
        config: ModelConfig | None = None,
        attention: Attention = default_attention,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        patch_dtype: torch.dtype | None = None,
    ):
        self.module = module
        self.config = config or ModelConfig.from_module(module)
        self.attention = attention
        if device is None or dtype is None:
            weight = next(module.patch_embedding.parameters())
            device, dtype = device or weight.device, dtype or weight.dtype
        self.device, self.dtype = torch.device(device), dtype
        self.patch_dtype = patch_dtype or dtype
        self.stream_dtype = torch.float32 if dtype is torch.float16 else dtype
        self._embeddings: dict[float, Tensor] = {}  # of the few timesteps of a schedule, on the device

    def prompt_keys(self, context: Tensor) -> PromptKeys:
        """Return cross-attention keys and values of text embeddings [B, text tokens, text_dim], padding included."""
        return self._within(self.module, self._prompt_keys, context)

    def _prompt_keys(self, context: Tensor) -> PromptKeys:
        text = self.module.text_embedding(send(context, self.device).to(self.dtype))
        return [self._within(block, self._block_keys, block.cross_attn, text) for block in self.module.blocks]

    def _block_keys(self, attn: Any, text: Tensor) -> tuple[Tensor, Tensor]:
        return self._heads(attn.norm_k(attn.k(text))), self._heads(attn.v(text))

    def velocity(self, latents: Tensor, timestep: float | Tensor, prompt: PromptKeys, attend: Attend) -> Tensor:
        """Return the model's velocity (noise - clean) for latent frames.

        Args:
            latents: [B, C, T, h, w], any dtype.
            timestep: in [0, 1000]; one for all frames, or [B, T] (training mixes clean and noisy frames).
            prompt: from `prompt_keys`. With B * groups prompts, each of `groups` equal runs of frames has one.
            attend: computes self-attention from q, k, v; see the docstring of this file.

        Returns:
            [B, C, T, h, w], float32.
        """
        return self._within(self.module, self._velocity, latents, timestep, prompt, attend)

    def _within(self, module: Any, function: Callable, *given) -> Any:
        """Run a part of the forward that uses this module's weights. Overridden in training (`train/trainable.py`)."""
        return function(*given)

    def _velocity(self, latents: Tensor, timestep: float | Tensor, prompt: PromptKeys, attend: Attend) -> Tensor:
        x, grid = self._patch(latents)
        time, modulation = self._time(timestep)
        for layer, block in enumerate(self.module.blocks):
            x = self._within(block, self._block, layer, block, x, modulation, prompt[layer], attend)
        head = self.module.head
        shift, scale = (_beside(head.modulation, time) + time.unsqueeze(2)).unbind(2)
        x = head.head(_modulate(head.norm(x), shift, scale).to(self.dtype))
        return self._unpatch(x, grid).float()

    def _patch(self, latents: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
        x = self.module.patch_embedding(latents.to(self.device, self.patch_dtype)).to(self.stream_dtype)
        return x.flatten(2).transpose(1, 2), tuple(x.shape[2:])  # [B, L, dim]

    def _unpatch(self, x: Tensor, grid: tuple[int, int, int]) -> Tensor:
        b, (t, h, w) = x.shape[0], grid
        _, ph, pw = self.config.patch_size
        x = x.view(b, t, h, w, ph, pw, self.config.out_dim)
        return x.permute(0, 6, 1, 2, 4, 3, 5).reshape(b, self.config.out_dim, t, h * ph, w * pw)

    def _time(self, timestep: float | Tensor) -> tuple[Tensor, Tensor]:
        """Return the embedding [B or 1, T or 1, dim] for the head, the blocks' modulation [B or 1, T or 1, 6, dim]."""
        embedding = self._embedding(timestep).to(self.dtype)
        time = self.module.time_embedding(embedding)
        return time, self.module.time_projection(time).unflatten(-1, (6, -1))

    def _embedding(self, timestep: float | Tensor) -> Tensor:
        """Return [B or 1, T or 1, freq_dim], float32. A schedule's timesteps are sent to the device only once."""
        if isinstance(timestep, Tensor):
            return sinusoidal_embedding(timestep.to(self.device), self.config.freq_dim)
        if timestep not in self._embeddings:
            if len(self._embeddings) >= MOST_TIMESTEPS:  # training draws new timesteps without end
                self._embeddings.clear()
            with torch.inference_mode(False):  # training may use it later
                number = torch.full((1, 1), timestep, dtype=torch.float64)
                self._embeddings[timestep] = send(sinusoidal_embedding(number, self.config.freq_dim), self.device)
        return self._embeddings[timestep]

    def _block(
        self, layer: int, block: Any, x: Tensor, modulation: Tensor, prompt: tuple[Tensor, Tensor], attend: Attend
    ) -> Tensor:
        """x [B, L, dim] is the residual stream, in `stream_dtype`; the layers get `dtype`.

        The three stages between the attentions are functions of tensors alone, so they can be compiled (`compiled.py`);
        the attentions write to caches and call the kernel that the host selected.
        """
        q, k, v, six = self._enter(block, x, modulation)
        joined = self._self_attention(layer, block, q, k, v, attend)
        del q, k, v  # as large as the stream, and no longer needed
        x, q = self._between(block, x, joined, six)
        del joined
        return self._leave(block, x, self._cross_attention(layer, block, q, prompt), six)

    def _enter(self, block: Any, x: Tensor, modulation: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return q, k, v of self-attention, [B, L, N, D]; shifts, scales and gates [B or 1, T or 1, 6, dim]."""
        six, attn = _beside(block.modulation, modulation) + modulation, block.self_attn
        shift, scale, *_ = six.unbind(2)
        y = _modulate(block.norm1(x), shift, scale).to(self.dtype)
        return *(self._heads(t) for t in (attn.norm_q(attn.q(y)), attn.norm_k(attn.k(y)), attn.v(y))), six

    def _between(self, block: Any, x: Tensor, joined: Tensor, six: Tensor) -> tuple[Tensor, Tensor]:
        """Add self-attention's result, joined [B, L, N, D], to x; return x and cross-attention's q [B, L, N, D]."""
        x = _gated(x, block.self_attn.o(joined.flatten(2)), six.unbind(2)[2])
        attn = block.cross_attn
        return x, self._heads(attn.norm_q(attn.q(block.norm3(self._for_norm3(x)))))

    def _leave(self, block: Any, x: Tensor, joined: Tensor, six: Tensor) -> Tensor:
        """Return the block's result. joined: the result of cross-attention, [B, L, N, D]."""
        shift, scale, gate = six.unbind(2)[3:]
        x = x + block.cross_attn.o(joined.flatten(2))
        del joined
        y = _modulate(block.norm2(x), shift, scale).to(self.dtype)
        return _gated(x, block.ffn(y), gate)

    def _for_norm3(self, x: Tensor) -> Tensor:
        """Return the input of the LayerNorm with weights. It takes only `dtype`; scale does not change its result."""
        return x if x.dtype is self.dtype else (x * NORM_SCALE).to(self.dtype)

    def _self_attention(self, layer: int, block: Any, q: Tensor, k: Tensor, v: Tensor, attend: Attend) -> Tensor:
        return attend(layer, q, k, v)

    def _cross_attention(self, layer: int, block: Any, q: Tensor, prompt: tuple[Tensor, Tensor]) -> Tensor:
        """Compute cross-attention; q and the result are [B, L, N, D]."""
        k, v = prompt
        groups = k.shape[0] // q.shape[0]
        out = self.attention(q.unflatten(1, (groups, -1)).flatten(0, 1), k, v)  # [B * groups, L / groups, N, D]
        return out.reshape(q.shape)

    def _heads(self, x: Tensor) -> Tensor:
        """Split the heads: [B, L, dim] -> [B, L, N, D]."""
        return x.unflatten(-1, (self.config.num_heads, -1))


def _beside(parameter: Tensor, like: Tensor) -> Tensor:
    """Return a bare, perhaps offloaded, parameter [1, N, dim] as [1, 1, N, dim] with device and dtype of `like`."""
    return send(parameter[:, None], like.device).to(like.dtype)


def _frames(x: Tensor, like: Tensor) -> Tensor:
    """Split the frames: [B, L, dim] -> [B, T, tokens of a frame, dim], to combine with values per frame."""
    return x.unflatten(1, (like.shape[1], -1))


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return x * (1 + scale) + shift; x [B, L, dim], shift and scale [B or 1, T or 1, dim]."""
    return torch.addcmul(shift.unsqueeze(2), _frames(x, scale), 1 + scale.unsqueeze(2)).flatten(1, 2)


def _gated(x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    """Return x + gate * y; gate [B or 1, T or 1, dim]."""
    return torch.addcmul(_frames(x, gate), _frames(y, gate), gate.unsqueeze(2)).flatten(1, 2)
