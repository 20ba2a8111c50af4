"""`python -m longlive_core train-clips`: sample clips of the teacher as training data of the causal start.

A clip is determined by the configuration and its number, so a folder can be filled in several runs, by several
processes (under torchrun each writes its own shards), and extended later.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ..words.wording import count
from .numbers import positive
from .train import changes, find_config, prompts_of

if TYPE_CHECKING:
    from ..train.config import Config
    from ..train.parallel import Ranks

CLIPS_OF_A_SHARD = 8  # an interruption costs a rank at most these; 34 MB at 832x480
PATIENCE = timedelta(days=7)  # ranks synchronise only at the end, and a shard of a large teacher takes most of an hour
ORIGIN = "origin"  # metadata key: the settings that a shard was sampled with


def add_train_clips(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments; torch is imported only when the command runs."""
    add = parser.add_argument
    add(
        "config",
        metavar="CONFIG.yaml",
        help="a file, or the name of a configuration in the package; its prompts, size, "
        "lengths.clip, models.teacher (or, without one, models.student) and seed are used",
    )
    add("--out", required=True, type=Path, metavar="FOLDER", help="folder of the clips; existing clips are kept")
    add("--count", required=True, type=positive, metavar="N", help="total number of clips")
    add("--steps", type=positive, default=50, metavar="N", help="sampling steps (default 50)")
    add(
        "--guidance",
        type=float,
        metavar="G",
        help="conditional + G (conditional - unconditional); default: the configuration's",
    )
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="change a setting, as for `train`")
    add("--device", help="cpu or cuda (default: cuda if available)")
    add("--threads", type=positive, metavar="N", help="CPU threads of this process (default: PyTorch's choice)")
    parser.set_defaults(run=_train_clips)


@dataclass(frozen=True)
class ClipRequest:
    """The clips to sample. origin: everything that determines a clip besides its number."""

    folder: Path
    count: int
    origin: dict

    def shards(self) -> Iterator[tuple[Path, range]]:
        """Yield each shard's file and the numbers of its clips."""
        for index, first in enumerate(range(0, self.count, CLIPS_OF_A_SHARD)):
            path = self.folder / f"clips-{index:06d}.safetensors"
            yield path, range(first, min(first + CLIPS_OF_A_SHARD, self.count))

    def missing(self, rank: int, ranks: int) -> list[tuple[Path, range]]:
        """Return a rank's shards that do not exist or have too few clips. ValueError: sampled with other settings.

        All shards are divided among the ranks, not only the missing ones: a fast rank writes one while a slow one still
        counts.
        """
        mine = list(self.shards())[rank::ranks]
        return [(path, numbers) for path, numbers in mine if self._existing(path) < len(numbers)]

    def _existing(self, path: Path) -> int:
        """Return the number of clips in a shard's file."""
        from ..train.data.clip_files import read_shard

        if not path.exists():
            return 0
        shard = read_shard(path)
        before = json.loads(shard.metadata.get(ORIGIN, "{}"))
        differing = [name for name, value in self.origin.items() if before.get(name) != value]
        if differing:
            changed = ", ".join(f"{name} was {before.get(name)!r} and is {self.origin[name]!r}" for name in differing)
            raise ValueError(
                f"{path} holds clips of other settings: {changed}. Change them back, or use another folder"
            )
        return len(shard.prompts)


def _train_clips(options: argparse.Namespace) -> None:
    import torch

    from ..run.pipeline import check_device
    from ..train.config import load_config
    from ..train.parallel import launched_ranks

    config = load_config(find_config(options.config), changes(options.set))
    check_device(options.device or "auto")
    draw = prompts_of(config)
    guidance = config.guidance if options.guidance is None else options.guidance
    request = ClipRequest(options.out, options.count, _origin(config, options.steps, guidance))
    options.out.mkdir(parents=True, exist_ok=True)
    if options.threads:
        torch.set_num_threads(options.threads)
    with launched_ranks(options.device, PATIENCE) as ranks:
        _make(request, config, draw, options.steps, guidance, ranks)
        if ranks.first:
            sys.stdout.write(f"{options.out}: {count(options.count, 'clip')}\n")


def _origin(config: Config, steps: int, guidance: float) -> dict:
    teacher = config.models.teacher or config.models.student
    return {
        "teacher": Path(teacher).name,
        "prompts": Path(config.prompts).name,
        "size": list(config.size),
        "frames": config.lengths.clip,
        "seed": config.seed,
        "steps": steps,
        "guidance": guidance,
        "shift": config.stream.shift,
        "negative_prompt": config.negative_prompt,
        "dtype": config.dtype,
    }


def _make(request: ClipRequest, config: Config, draw: Callable, steps: int, guidance: float, ranks: Ranks) -> None:
    """Sample this rank's missing shards; the models are loaded only if there are any."""
    from tqdm import tqdm

    from ..train.data.clip_files import write_shard
    from ..train.teacher_clips import ClipSampler

    mine = request.missing(ranks.rank, ranks.count)
    if not mine:
        return
    sampler = ClipSampler.load(config, draw, steps, guidance, ranks)
    metadata = {ORIGIN: json.dumps(request.origin, ensure_ascii=False)}
    total = sum(len(numbers) for _, numbers in mine)
    with tqdm(total=total, unit="clip", file=sys.stderr, disable=not ranks.first) as bar:
        for path, numbers in mine:
            latents, prompts = sampler.clips(numbers, bar.update)
            write_shard(path, latents, prompts, metadata)
