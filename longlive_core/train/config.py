"""A training's configuration: one YAML file, read into frozen dataclasses that check themselves.

Defaults are the paper's (LongLive's published training configurations). Unknown names and contradictory values are
errors before anything is loaded.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import PRESETS, StreamConfig
from .causal_start.losses import check_levels, check_window
from .distillation.streaming_long_tuning import Lengths
from .packages import needed
from .settings import CausalSettings, ConfigError, LoraSettings, ModelFiles, OptimiserSettings

TOYBOX = "toybox"
SAMPLE_FPS = 16  # Wan's
IMAGE, FILM = FIRST_LATENTS = ("image", "film")
DISTIL, CAUSAL = STAGES = ("distil", "causal")


@dataclass(frozen=True)
class Config:
    """A training: the causal start, or a distillation, short (films of one clip) or long (streaming long tuning).

    Attributes:
        stage: "distil" or "causal".
        causal: settings of the causal start; only with `stage: causal`.
        stream: window, sink and so on, as the student will be used; the sink policy is the one it is trained with.
        lengths: lengths of clips and films in latent frames.
        size: (width, height) of the video in pixels.
        prompts: a file (.txt, .jsonl), or "toybox"; not needed for the causal start on existing clips.
        follow_ups: a second text file beside a .txt.
        switches: whether the prompt changes once in a film of more than one clip.
        first_latent: first latent frame of a clip cut out of a film, as the scores see it. "image": re-encoded from its
            first picture alone, as in LongLive, since a teacher of short clips was trained on no other; "film": the
            film's own, of four pictures.
        critic_updates: critic steps per student step.
        guidance: guidance of the real score; in the causal start, of the autoregressive teacher.
        score_shift: shift of the timesteps of scores and critic; 1: uniform.
        negative_prompt: the text of the unconditional score.
        batch: films, or clips, per rank.
        steps: number of critic steps; in the causal start, the steps of both halves (may be left out).
        dtype: dtype of the weights in use; the optimiser's copies are float32. auto: bf16 where the device computes in
            it, else fp32.
        save_every, keep: steps between checkpoints, and number of checkpoints kept.
        sample_every: steps between sample films; 0: none.
    """

    models: ModelFiles
    prompts: str | None = None
    stage: str = DISTIL
    causal: CausalSettings | None = None
    stream: StreamConfig = StreamConfig(sink_policy="refreshed")
    lengths: Lengths = Lengths()
    size: tuple[int, int] = (832, 480)
    follow_ups: str | None = None
    switches: bool = True
    first_latent: str = IMAGE
    critic_updates: int = 5
    guidance: float = 3.0
    score_shift: float = 5.0
    negative_prompt: str = ""
    batch: int = 1
    steps: int = 3000
    seed: int = 0
    student_optimiser: OptimiserSettings = OptimiserSettings(rate=1e-5)
    critic_optimiser: OptimiserSettings = OptimiserSettings(rate=2e-6)
    lora: LoraSettings | None = None
    checkpointing: bool = True
    dtype: str = "auto"
    save_every: int = 100
    keep: int = 3
    log_every: int = 1
    sample_every: int = 0
    sample_seconds: float = 10.0
    notes: str = field(default="", compare=False)

    def __post_init__(self):
        self.lengths.check_chunks(self.stream.chunk)
        for name in ("critic_updates", "batch", "steps", "save_every", "keep", "log_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} {getattr(self, name)}: it must be at least 1")
        self.stream.check_length(self.lengths.frames // self.stream.chunk)
        self._check_sample()
        if len(self.size) != 2 or any(side < 16 or side % 16 for side in self.size):
            raise ConfigError(f"size {list(self.size)}: it must be width and height, multiples of 16")
        if self.first_latent not in FIRST_LATENTS:
            raise ConfigError(f"first_latent {self.first_latent!r}: allowed are {' and '.join(FIRST_LATENTS)}")
        if self.stage not in STAGES:
            raise ConfigError(f"stage {self.stage!r}: allowed are {' and '.join(STAGES)}")
        self._check_causal() if self.stage == CAUSAL else self._check_distil()

    def _check_sample(self) -> None:
        try:
            if self.sample_every:
                self.stream.check_length(self.sample_chunks)
        except ValueError as error:
            raise ConfigError(f"sample_seconds {self.sample_seconds:g}: {error}") from None

    def _check_distil(self) -> None:
        if not self.score_shift > 0:
            raise ConfigError(f"score_shift {self.score_shift}: it must be above 0 (LongLive: 5; uniform: 1)")
        if self.causal is not None:
            raise ConfigError("`causal` holds settings of the causal start: add `stage: causal`, or remove `causal`")
        needed = {"models.teacher": self.models.teacher, "models.critic": self.models.critic, "prompts": self.prompts}
        missing = [name for name, value in needed.items() if value is None]
        if missing:
            raise ConfigError(f"missing setting {', '.join(missing)}")

    def _check_causal(self) -> None:
        if self.causal is None:
            raise ConfigError(
                "missing setting causal.clips: a folder of clips, which `python -m longlive_core train-clips` creates"
            )
        if self.lora is not None:
            raise ConfigError("the causal start trains all weights; remove `lora`")
        if self.steps != self.causal.steps:
            raise ConfigError(
                f"steps {self.steps}: the causal start runs {self.causal.steps} steps, the sum of "
                "causal.autoregressive_steps and causal.consistency_steps; change those, and remove `steps`"
            )
        check_window(self.stream)
        if self.causal.consistency_steps:
            check_levels(self.causal.levels, self.stream)

    @property
    def latent_size(self) -> tuple[int, int]:
        """(h, w)."""
        return self.size[1] // 8, self.size[0] // 8

    @property
    def student_clips(self) -> set[int]:
        """Indices of the clips of a film that the student learns from: one of `critic_updates` + 1 consecutive ones."""
        count = self.lengths.clips
        return {number * (self.critic_updates + 1) % count for number in range(count)}

    @property
    def needs_pictures(self) -> bool:
        """Whether a clip's first latent frame is re-encoded, which needs the VAE."""
        return self.first_latent == IMAGE and self.lengths.clips > 1 and self.lengths.new < self.lengths.clip

    @property
    def sample_chunks(self) -> int:
        """Length of a sample film in chunks; at least two, for a prompt switch."""
        return max(2, -(-int(self.sample_seconds * SAMPLE_FPS + 3) // (4 * self.stream.chunk)))

    @property
    def needs_follow_ups(self) -> bool:
        return self.switches and self.lengths.clips > 1


def load_config(path: str | os.PathLike, changes: dict[str, Any] | None = None) -> Config:
    """Read a YAML file; `changes` (by dotted name) take precedence. ConfigError names the file and the setting."""
    yaml = needed("yaml")

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"the configuration {path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"the configuration {path} must be a table of settings, but it is {type(content).__name__}")
    try:
        for name, value in (changes or {}).items():
            _change(content, name, yaml.safe_load(value) if isinstance(value, str) else value)
        return from_dict(content)
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None


def _change(content: dict[str, Any], name: str, value: Any) -> None:
    """Set one value by its dotted name; missing tables on the way are created."""
    table, (*parents, last) = content, name.split(".")
    for parent in parents:
        table[parent] = {} if table.get(parent) is None else table[parent]
        table = table[parent]
        if not isinstance(table, dict):
            raise ConfigError(f"unknown setting {name}: {parent} is {table!r}, not a table of settings")
    table[last] = value


def from_dict(content: dict[str, Any]) -> Config:
    """Create a configuration from plain tables, as YAML gives them."""
    content = dict(content)
    preset = content.pop("preset", "longlive-1.3b")
    if preset not in PRESETS:
        raise ConfigError(f"preset {preset!r}: allowed are {', '.join(PRESETS)}")
    parts: dict[str, Any] = {
        "models": ModelFiles,
        "lengths": Lengths,
        "student_optimiser": OptimiserSettings,
        "critic_optimiser": OptimiserSettings,
        "lora": LoraSettings,
        "causal": CausalSettings,
    }
    given: dict[str, Any] = {}
    for name, value in content.items():
        given[name] = _part(parts[name], value, name) if name in parts and value is not None else value
    base = dataclasses.replace(PRESETS[preset], sink_policy="refreshed")
    given["stream"] = _part(StreamConfig, {**dataclasses.asdict(base), **(content.get("stream") or {})}, "stream")
    if given.get("stage") == CAUSAL and isinstance(given.get("causal"), CausalSettings):
        given.setdefault("steps", given["causal"].steps)
    return _part(Config, given, "")


def _part(kind: type, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise ConfigError(f"`{where}` must be a table of settings, but it is {values!r}")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        prefix = f"{where}." if where else ""
        raise ConfigError(
            f"unknown setting {', '.join(prefix + name for name in unknown)}: allowed are {', '.join(sorted(fields))}"
        )
    missing = [
        name
        for name, f in fields.items()
        if name not in values and f.default is f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"missing setting {', '.join(f'{where}.{name}' if where else name for name in missing)}")
    return kind(
        **{
            name: _value(fields[name].type, value, f"{where}.{name}" if where else name)
            for name, value in values.items()
        }
    )


def _value(kind: str, value: Any, name: str) -> Any:
    """Convert a setting's value to the type of its field. YAML reads 1e-5 as text and 1.0e-5 as a number; both work."""
    optional = kind.endswith(" | None")
    kind = kind.removesuffix(" | None")
    try:
        if optional and value is None:
            return None
        if kind == "float":
            return float(value)
        if kind == "int" and (isinstance(value, bool) or float(value) != int(float(value))):
            raise ValueError
        if kind == "int":
            return int(float(value))
        if kind == "bool" and not isinstance(value, bool):
            raise ValueError
        if kind.startswith("tuple"):
            return tuple(float(part) if "float" in kind else part for part in value)
    except (TypeError, ValueError):
        wanted = {"float": "a number", "int": "a whole number", "bool": "true or false"}.get(kind, "a list of numbers")
        raise ConfigError(f"{name} {value!r}: it must be {wanted}") from None
    return tuple(value) if isinstance(value, list) else value


def to_dict(config: Config) -> dict[str, Any]:
    """Convert back to plain tables, for the run's folder."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(part) for name, part in value.items()}
        return list(value) if isinstance(value, tuple) else value

    return plain(dataclasses.asdict(config))
