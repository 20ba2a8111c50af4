"""The arguments of `render`, and the settings that follow from them."""

from __future__ import annotations

import argparse
import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..sizes import AUTO, CHOICES, film_size
from ..words.quantities import parse_size
from .model_files import add_files
from .start import add_start

if TYPE_CHECKING:
    from ..config import StreamConfig
    from ..takes import TakeStore
    from ..timeline import Plan
    from .timeline import Source


def add_render_options(render: argparse.ArgumentParser) -> None:
    add = render.add_argument
    add(
        "timeline",
        metavar="TIMELINE",
        help="a file, '-' for standard input, or the text itself (docs/timeline.md); or a film rendered by LongLive, "
        "which is rendered again with the model given here (docs/films.md)",
    )
    add("-o", "--output", metavar="FILM.mp4")
    add("--duration", type=float, metavar="S", help="seconds (default: the timeline's own length)")
    add("--seed", type=int, metavar="N", help="default: 0")
    add("--contact-sheet", metavar="PNG", help="also save pictures of the film with their prompts")
    add(
        "--no-metadata",
        action="store_true",
        help="write no tags, subtitles or chapters into the film, and no prompts on the contact sheet; such a film "
        "cannot be rendered again from its file",
    )
    add(
        "--takes",
        metavar="FOLDER",
        help="keep every chunk there: a later render resumes this one, and renders only what changed (docs/takes.md)",
    )
    add(
        "--dry-run",
        action="store_true",
        help="only report what would be rendered, and the time, memory and disk it needs; exit code 0 if it can run",
    )
    add(
        "--takes-limit",
        type=parse_size,
        metavar="SIZE",
        help="of the folder of --takes, such as 20GB: to keep to it, the takes unused for longest are removed",
    )
    add_start(render)
    add_files(render)
    _add_run(render)


def _add_run(render: argparse.ArgumentParser) -> None:
    add = render.add_argument_group("run (defaults come with the model, or the film)").add_argument
    size = "default: auto, the size the model was trained at; of a film or a take, its own"
    add("--size", choices=CHOICES, default=AUTO, help=size)
    add("--width", type=int, metavar="PX", help="instead of --size, together with --height")
    add("--height", type=int, metavar="PX")
    add("--steps", type=int, metavar="N", help="denoising steps, evenly spaced")
    add("--shift", type=float, help="of the flow-matching schedule")
    add("--window", type=int, metavar="N", help="latent frames a chunk sees; -1: all")
    add("--sink", type=int, metavar="N", help="first latent frames that stay visible")
    add("--sink-policy", choices=("held", "refreshed"))
    add("--chunk", type=int, metavar="N", help="latent frames denoised together")
    add("--positions", choices=("absolute", "relative"))


def check_options(options: argparse.Namespace) -> None:
    """Raise ValueError for options that are missing, have no effect, or name a file that cannot be written."""
    if options.output is None and not options.dry_run:
        raise ValueError("no output: give -o FILM.mp4 (only --dry-run needs none)")
    if options.takes_limit is not None and options.takes is None:
        raise ValueError("--takes-limit is for the folder of --takes FOLDER; give both, or neither")
    _check_output(options.output, ".mp4", "the film is an MP4")
    _check_output(options.contact_sheet, ".png", "the contact sheet is a PNG")


def _check_output(path: str | None, suffix: str, what: str) -> None:
    from ..film.video import check_writable

    if path is None:
        return
    if Path(path).suffix.lower() != suffix:
        raise ValueError(f"{what}, so '{path}' must end in {suffix}")
    check_writable(path)


@dataclass(frozen=True)
class RenderSettings:
    """Settings of a run. size: (width, height) in pixels."""

    stream: StreamConfig
    plan: Plan
    size: tuple[int, int]


def read_settings(options: argparse.Namespace, source: Source, store: TakeStore | None) -> RenderSettings:
    """Return the settings of the run. Raises ValueError for invalid ones, before minutes of loading."""
    from ..engine.noise import AddressedNoise
    from ..run.pipeline import check_device, default_size, own_preset, settings_for

    check_device(options.device)
    preset, film = settings_for(options.model, options.preset), source.film
    stream = _stream(preset if film is None or options.preset else film.stream, options)
    plan = source.plan(options.duration, stream.chunk)
    stream.check_length(plan.longest_shot)
    own = default_size(options.model) if film is None else film.size
    if options.extend is not None and store is not None:  # the take's size is the only possible one
        with contextlib.suppress(ValueError):  # a damaged take is reported where it is extended
            own = tuple(store.read_manifest(options.extend).origin["size"])
    size = film_size(options.size, options.width or 0, options.height or 0, own_preset(options.model), own)
    AddressedNoise(options.seed)  # checks it
    return RenderSettings(stream, plan, size)


def _stream(preset: StreamConfig, options: argparse.Namespace) -> StreamConfig:
    """Return the preset with the user's changes; StreamConfig checks itself."""
    names = ("shift", "window", "sink", "sink_policy", "chunk", "positions")
    changes = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.steps is not None:
        changes["denoising_steps"] = preset.even_steps(options.steps)
    return replace(preset, **changes)
