"""`python -m longlive_core train`: train from a configuration file; under torchrun, on many ranks."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .numbers import positive

if TYPE_CHECKING:
    from ..train.config import Config


def add_train(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments; torch is imported only when the command runs."""
    add = parser.add_argument
    add(
        "config",
        metavar="CONFIG.yaml",
        help="a file, or the name of a configuration in the package: debug, longlive-init, "
        "longlive-causal, longlive-long, ... (docs/training.md)",
    )
    add(
        "--out",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="folder of checkpoints, TensorBoard events and sample films; an existing run is resumed",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a setting: --set steps=100 --set models.teacher=wan14b.safetensors",
    )
    add("--device", help="cpu or cuda (default: cuda if available)")
    add("--threads", type=positive, metavar="N", help="CPU threads of this process (default: PyTorch's choice)")
    parser.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> None:
    import torch

    from ..film.video import check_writable
    from ..run.pipeline import check_device
    from ..train.config import CAUSAL, load_config
    from ..train.parallel import launched_ranks
    from ..train.run import run

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    config = load_config(find_config(options.config), changes(options.set))
    check_device(options.device or "auto")
    draw = None if config.stage == CAUSAL else prompts_of(config)
    options.out.mkdir(parents=True, exist_ok=True)
    check_writable(options.out / "config.yaml")
    if options.threads:
        torch.set_num_threads(options.threads)
    with launched_ranks(options.device) as ranks:
        last = run(config, options.out, draw, ranks)
        if ranks.first:
            sys.stdout.write(f"{last}\n")


def find_config(name: str) -> Path:
    """Return a configuration's file: the given path, or one of the package."""
    folder = Path(__file__).parents[1] / "train" / "configs"
    for path in (Path(name), folder / f"{name}.yaml"):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
    raise ValueError(f"there is no configuration {name}: pass a file, or one of {known}")


def changes(given: list[str]) -> dict[str, Any]:
    """Parse settings given as `NAME=VALUE`. ValueError for any other form."""
    parsed = {}
    for change in given:
        name, equals, value = change.partition("=")
        if not equals or not name:
            raise ValueError(f"--set {change}: it must be NAME=VALUE, such as --set steps=100")
        parsed[name] = value
    return parsed


def prompts_of(config: Config) -> Callable:
    """Return the function that draws the run's prompts, from a file or from the toybox's grammar.

    ValueError: no prompts are configured, or follow-ups are missing.
    """
    from ..train.config import CAUSAL, TOYBOX
    from ..train.data.prompt_files import PromptStream, read_prompts, require_follow_ups

    if config.prompts is None:
        raise ValueError("missing setting prompts: a file (.txt, .jsonl), or toybox")
    if config.prompts == TOYBOX:
        from ..pocket.toybox_prompts import ToyboxPrompts

        if config.follow_ups is not None:
            raise ValueError(
                f"follow_ups {config.follow_ups}: the toybox has its own; remove it, or set prompts to a file"
            )
        return ToyboxPrompts(config.seed).draw
    pairs = read_prompts(config.prompts, config.follow_ups)
    if config.needs_follow_ups and config.stage != CAUSAL:
        require_follow_ups(pairs, config.prompts)
    return PromptStream(pairs, config.seed).draw
