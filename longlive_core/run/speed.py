"""Speeds measured on this machine, remembered from run to run, so that the time of the next run can be estimated.

They are in `speeds.json` in the user's cache folder (LONGLIVE_CACHE names another folder). The file is a convenience:
if it cannot be read or written, nothing is remembered, a warning says so once, and no render fails.
"""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import torch

from ..config import StreamConfig
from ..files import in_use
from ..model import CausalWan
from .memory import PIXEL_FRAMES

logger = logging.getLogger(__name__)

FORMAT = 1
LEAST_CHUNKS = 3  # that a run must render to be remembered
_MOST_ENTRIES = 500


@dataclass(frozen=True)
class SpeedKey:
    """The conditions that a speed was measured under.

    Attributes:
        device: its name, on a CPU with the number of threads.
        model: width, layers, and whether it is in INT8.
        dtype: such as "bfloat16".
        width, height: pixels.
        steps, window, sink, chunk, positions: of the run.
    """

    device: str
    model: str
    dtype: str
    width: int
    height: int
    steps: int
    window: int
    sink: int
    chunk: int
    positions: str

    @property
    def chunk_pixels(self) -> int:
        """Pixels of a chunk of video over all its frames (a shot's first chunk has fewer)."""
        return self.width * self.height * PIXEL_FRAMES * self.chunk


@dataclass(frozen=True)
class Speed:
    """One measurement: seconds of work and bytes of video for a chunk; `date` as 2025-01-31."""

    key: SpeedKey
    seconds: float
    video_bytes: float
    date: str


def speed_key(model: CausalWan, stream: StreamConfig, size: tuple[int, int]) -> SpeedKey:
    """Return the key of a run at `size` (width, height)."""
    config = model.config
    int8 = any(t.dtype == torch.int8 for t in (*model.module.parameters(), *model.module.buffers()))
    return SpeedKey(
        device_name(model.device),
        f"width {config.dim}, {config.num_layers} layers{', INT8' if int8 else ''}",
        str(model.dtype).removeprefix("torch."),
        *size,
        len(stream.denoising_steps),
        stream.window,
        stream.sink,
        stream.chunk,
        stream.positions,
    )


def device_name(device: torch.device) -> str:
    """Return the device's name, such as "NVIDIA H200", or "AMD EPYC 9004, 8 threads"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    processor = _processor()
    if device.type != "cpu":
        return f"{processor}, {device.type}"
    threads = torch.get_num_threads()
    return f"{processor}, {threads} thread{'' if threads == 1 else 's'}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        models = []
    return models[0] if models else platform.processor() or platform.machine() or "CPU"


def cache_folder() -> Path | None:
    """Return the user's cache folder; None if the user has no home folder."""
    given = os.environ.get("LONGLIVE_CACHE")
    if given:
        return Path(given)
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        named = os.environ.get("XDG_CACHE_HOME", "")
        base = named if os.path.isabs(named) else home / ".cache"  # the XDG specification: a relative path is ignored
    return Path(base) / "longlive"


class SpeedBook:
    """The measured speeds. Of two runs with one key the later counts. A bad file raises nothing."""

    def __init__(self, folder: str | os.PathLike | None = None):
        folder = cache_folder() if folder is None else Path(folder)
        self.path = None if folder is None else folder / "speeds.json"
        self._warned = False

    def recall(self, key: SpeedKey) -> Speed | None:
        """Return the last measurement under exactly this key."""
        return next((speed for speed in reversed(self._read()) if speed.key == key), None)

    def video_rate(self, key: SpeedKey) -> float | None:
        """Return bytes of video per pixel and frame: under this key, else the last of this model at any size."""
        own = self.recall(key)
        like = [own] if own else [speed for speed in self._read() if speed.key.model == key.model]
        return like[-1].video_bytes / like[-1].key.chunk_pixels if like else None

    def note(self, key: SpeedKey, seconds_per_chunk: float, bytes_per_chunk: float) -> None:
        """Record a measurement. The file is replaced as a whole, so no reader sees half of it."""
        speed = Speed(key, round(seconds_per_chunk, 6), round(bytes_per_chunk, 1), time.strftime("%Y-%m-%d"))
        entries = [*(other for other in self._read() if other.key != key), speed][-_MOST_ENTRIES:]
        text = json.dumps({"format": FORMAT, "speeds": [asdict(entry) for entry in entries]}, indent=1)
        if self.path is None:
            self._warn("there is no home folder")
            return
        part = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            try:
                part.write_text(text, encoding="utf-8")
                in_use.replace(part, self.path)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            self._warn(f"'{self.path}' cannot be written ({error.strerror})")

    def _read(self) -> list[Speed]:
        """Return all measurements, the latest last, without damaged ones."""
        if self.path is None:
            return []
        try:
            data = json.loads(self.path.read_bytes())
            if data["format"] != FORMAT:
                raise ValueError(f"format {data['format']!r}")
            return [_speed(entry) for entry in data["speeds"]]
        except FileNotFoundError:
            return []
        except OSError as error:
            self._warn(f"'{self.path}' cannot be read ({error.strerror})")
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            self._warn(f"'{self.path}' is damaged ({type(error).__name__}: {error}) and will be replaced")
        return []

    def _warn(self, what: str) -> None:
        if not self._warned:
            logger.warning("speeds of this machine: %s; the time of a run cannot be estimated", what)
        self._warned = True


def _speed(entry: dict) -> Speed:
    """Read an entry of the file. ValueError, TypeError or KeyError if it is not valid."""
    key, numbers = SpeedKey(**entry["key"]), (entry["seconds"], entry["video_bytes"])
    for value, kind in zip(vars(key).values(), SpeedKey.__annotations__.values(), strict=True):
        if type(value).__name__ != kind:
            raise ValueError(f"{value!r} is not of type {kind}")
    if not all(type(n) in (int, float) and math.isfinite(n) and n > 0 for n in (*numbers, key.chunk_pixels)):
        raise ValueError(f"numbers {numbers}")
    return Speed(key, *numbers, str(entry["date"]))


class SpeedRecorder:
    """Measures a run: create it before the first chunk, call `lap` after each chunk and `finish` at the end.

    book: None records nothing. clock: seconds since any moment.
    """

    def __init__(self, book: SpeedBook | None, key: SpeedKey, clock: Callable[[], float] = time.perf_counter):
        self._book, self._key, self._clock = book, key, clock
        self._laps: list[float] = []
        self._last = clock()

    def lap(self, made: bool = True) -> None:
        """Record a chunk; call this after each. made: it was computed, not read from a store."""
        now = self._clock()
        if made:
            self._laps.append(now - self._last)
        self._last = now

    def finish(self, video_bytes: float, frames: int) -> None:
        """Record the mean of the rendered chunks, if there are enough. The first one is warm-up and does not count.

        video_bytes, frames: of the film.
        """
        if self._book is None or len(self._laps) < LEAST_CHUNKS or not frames:
            return
        seconds = fmean(self._laps[1:])
        if seconds > 0 and video_bytes > 0:
            self._book.note(self._key, seconds, video_bytes / frames * PIXEL_FRAMES * self._key.chunk)
