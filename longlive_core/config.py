"""Shapes of a model and settings of a run, as frozen dataclasses that check themselves.

Units: `window`, `sink` and `chunk` count latent frames (4 pixel frames each, but for a shot's first).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

SinkPolicy = Literal["held", "refreshed"]
Positions = Literal["absolute", "relative"]
Transition = Literal["recache", "keep", "cut"]

SINK_POLICIES: tuple[SinkPolicy, ...] = ("held", "refreshed")
POSITIONS: tuple[Positions, ...] = ("absolute", "relative")
TRANSITIONS: tuple[Transition, ...] = ("recache", "keep", "cut")

MAX_ABSOLUTE_FRAMES = 1024  # length of the rotary table that Wan 2.1 and LongLive were trained with
TEXT_LENGTH = 512  # tokens of a prompt, Wan 2.1's `text_len`
TRAIN_TIMESTEPS = 1000  # Wan's flow-matching schedule runs from 1000 (noise) to 0 (clean)

# The two sets of weights that a training checkpoint may hold: the weights, and their moving average. Maps the user's
# choice (`--weights`, the widget of Load LongLive, a training's settings) to `prefer_ema` of the loaders.
GENERATOR, GENERATOR_EMA = "generator", "generator_ema"
WEIGHT_SETS: dict[str, bool | None] = {"auto": None, GENERATOR: False, GENERATOR_EMA: True}


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a Wan 2.1 text-to-video transformer.

    `head_dim` is `dim / num_heads`: 128 in every published model (and assumed by ComfyUI when it detects one).
    """

    dim: int
    ffn_dim: int
    num_heads: int
    num_layers: int
    in_dim: int = 16
    out_dim: int = 16
    text_dim: int = 4096
    freq_dim: int = 256
    patch_size: tuple[int, int, int] = (1, 2, 2)
    eps: float = 1e-6

    def __post_init__(self):
        if self.dim % self.num_heads or (self.dim // self.num_heads) % 2:
            raise ValueError(f"{self.num_heads} heads do not divide a width of {self.dim} into even parts")
        if self.patch_size[0] != 1:
            raise ValueError(f"patch size {self.patch_size}: a patch must span one latent frame to be causal")

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    def tokens_per_frame(self, latent_size: tuple[int, int]) -> int:
        """Return the tokens of one latent frame of (height, width)."""
        return (latent_size[0] // self.patch_size[1]) * (latent_size[1] // self.patch_size[2])

    @classmethod
    def from_state_dict(cls, state_dict: dict[str, Tensor], num_heads: int | None = None) -> ModelConfig:
        """Read the shape from weights under Wan's names; heads of 128 unless `num_heads` says otherwise."""
        dim, in_dim, *patch = state_dict["patch_embedding.weight"].shape
        layers = {int(key.split(".")[1]) for key in state_dict if key.startswith("blocks.")}
        patch_volume = patch[0] * patch[1] * patch[2]
        return cls(
            dim=dim,
            ffn_dim=state_dict["blocks.0.ffn.0.weight"].shape[0],
            num_heads=num_heads or max(dim // 128, 1),
            num_layers=max(layers) + 1,
            in_dim=in_dim,
            out_dim=state_dict["head.head.weight"].shape[0] // patch_volume,
            text_dim=state_dict["text_embedding.0.weight"].shape[1],
            freq_dim=state_dict["time_embedding.0.weight"].shape[1],
            patch_size=tuple(patch),
        )

    @classmethod
    def from_module(cls, module: Any) -> ModelConfig:
        """Read the shape from a live module's plain attributes (the core's WanModel and ComfyUI's have the same).

        Weights are not touched: inside ComfyUI they may be quantised, offloaded or not loaded yet.
        """
        names = ("dim", "ffn_dim", "num_heads", "num_layers", "in_dim", "out_dim", "text_dim", "freq_dim", "eps")
        missing = [name for name in (*names, "patch_size", "blocks", "head") if not hasattr(module, name)]
        if missing:
            raise ValueError(
                f"{type(module).__name__} is not a Wan 2.1 text-to-video model "
                f"(it lacks {', '.join(missing)}); load one with Load LongLive or UNETLoader"
            )
        return cls(**{name: getattr(module, name) for name in names}, patch_size=tuple(module.patch_size))


@dataclass(frozen=True)
class StreamConfig:
    """Settings of the rollout. Defaults are LongLive's (paper, section 3; `configs/longlive_inference.yaml`).

    Attributes:
        window: latent frames a chunk sees, counting the sink and the chunk itself; -1: everything so far.
        sink: first latent frames of a shot that stay visible permanently (the frame sink).
        chunk: latent frames denoised together: 3 (LongLive, Self-Forcing) or 1 (frame-wise models).
        sink_policy: at a recache past the window the sink is `held` as it was, or `refreshed` from the window.
        positions: rotary positions count from the shot's start (`absolute`, at most 1024 latent frames)
            or inside the window (`relative`, no end).
        denoising_steps: timesteps before warping, falling from 1000.
        shift: of the flow-matching schedule.
        context_noise: timestep of the clean pass.
    """

    window: int = 12
    sink: int = 3
    chunk: int = 3
    sink_policy: SinkPolicy = "held"
    positions: Positions = "absolute"
    denoising_steps: tuple[int, ...] = (1000, 750, 500, 250)
    shift: float = 5.0
    context_noise: int = 0

    def __post_init__(self):
        self._check_window()
        _one_of("sink policy", self.sink_policy, SINK_POLICIES)
        _one_of("positions", self.positions, POSITIONS)
        steps = self.denoising_steps
        falling = all(a > b for a, b in zip(steps, steps[1:]))  # noqa: B905 - pairs of neighbours
        if not steps or steps[0] != TRAIN_TIMESTEPS or steps[-1] <= 0 or not falling:
            raise ValueError(
                f"denoising steps {steps}: they must fall from {TRAIN_TIMESTEPS} and stay above 0, "
                "for example 1000, 750, 500, 250"
            )
        if not self.shift > 0:
            raise ValueError(f"shift {self.shift}: it must be above 0 (LongLive: 5)")
        if not 0 <= self.context_noise < TRAIN_TIMESTEPS:
            raise ValueError(f"context noise {self.context_noise}: it must be from 0 to {TRAIN_TIMESTEPS - 1}")

    def _check_window(self) -> None:
        window, sink, chunk = self.window, self.sink, self.chunk
        numbers = f"window {window}, sink {sink}, chunk {chunk} (latent frames)"
        if chunk < 1 or sink < 0:
            raise ValueError(f"{numbers}: chunk must be at least 1 and sink at least 0")
        if window == -1:
            if sink:
                raise ValueError(f"{numbers}: without a window (-1) everything stays visible, so sink must be 0")
            return
        if window < sink + chunk:
            raise ValueError(
                f"{numbers}: the window holds the sink and the chunk being denoised, so it must be at "
                f"least {sink + chunk}, or -1 for no window"
            )
        if sink % chunk or (window - sink) % chunk:
            raise ValueError(f"{numbers}: sink and window - sink ({window - sink}) must be multiples of the chunk")

    def check_length(self, chunks: int) -> None:
        """Raise ValueError unless a shot of `chunks` chunks has positions."""
        frames = chunks * self.chunk
        if frames < 1:
            raise ValueError("a film needs at least one chunk")
        if self.positions == "absolute" and frames > MAX_ABSOLUTE_FRAMES:
            raise ValueError(
                f"a shot of {frames} latent frames: absolute positions end at {MAX_ABSOLUTE_FRAMES} "
                "(256 s); choose relative positions, which have no end, or put a {cut} into the "
                "timeline"
            )

    @property
    def longest_shot(self) -> int | None:
        """The largest number of chunks in a shot; None: no limit."""
        return MAX_ABSOLUTE_FRAMES // self.chunk if self.positions == "absolute" else None

    def check_endless(self) -> None:
        """Raise ValueError unless a film may be endless."""
        if self.window == -1:
            raise ValueError(
                "a film without end needs a window: without one (-1) every frame stays in memory; choose "
                "12, or give a duration"
            )

    @staticmethod
    def even_steps(count: int) -> tuple[int, ...]:
        """Return `count` evenly spaced timesteps before warping: 4 -> (1000, 750, 500, 250)."""
        if not 1 <= count <= TRAIN_TIMESTEPS:
            raise ValueError(f"{count} denoising steps: allowed are 1 to {TRAIN_TIMESTEPS} (LongLive: 4)")
        return tuple(round(TRAIN_TIMESTEPS * (count - i) / count) for i in range(count))


def _one_of(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{what} {value!r}: allowed are {' and '.join(allowed)}")


PRESETS: dict[str, StreamConfig] = {
    "longlive-1.3b": StreamConfig(),
    "self-forcing": StreamConfig(window=-1, sink=0),
    # Trained with positions inside the window, so that films of minutes have no position that it was not trained with.
    "pocket": StreamConfig(positions="relative"),
}
