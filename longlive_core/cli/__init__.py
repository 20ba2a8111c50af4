"""The command line: render a timeline, check what was downloaded, measure films, train, and what belongs to these.

    python -m longlive_core render "0s A panda walks" -o film.mp4 --duration 20
    python -m longlive_core check --model longlive_base.pt --lora lora.pt

Exit codes: 0 done, 1 `check` or `takes verify` found a fault, or `follow-ups` has none for a prompt, 2 something the
user can mend (one line on stderr), 130 stopped by Ctrl-C. Torch is imported by the commands, not here, so that `--help`
and mistakes in a timeline answer at once.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..sizes import AUTO, CHOICES, film_size
from ..timeline import plan_text
from ..words.visible import make_visible
from ..words.wording import count
from .beginning import add_beginning, read_beginning
from .estimate import add_estimate, check_arguments, dry_run
from .evaluate import add_eval
from .follow_ups import add_follow_ups
from .takes import add_takes
from .timeline import Source, read_source
from .train import add_train
from .train_clips import add_train_clips
from .weights import add_weights, prefer_ema

if TYPE_CHECKING:
    from ..config import StreamConfig
    from ..takes import TakeStore
    from ..timeline import Plan

FAULT, USER_ERROR, INTERRUPTED = 1, 2, 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(USER_ERROR, f"{self.prog}: {message} (see --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Errors of the user's making end in one line on stderr."""
    for output in (sys.stdout, sys.stderr):
        if hasattr(output, "reconfigure"):  # a console without the prompt's letters shows '?', not a traceback
            output.reconfigure(errors="replace")
    options = _build_parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (ValueError, OSError) as error:
        return _tell(str(error))
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's; it is not imported here
            raise
        return _tell(
            f"not enough memory ({error}); end other programs, ask for a smaller picture or batch, or choose "
            "--device cpu"
        )
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED


def _tell(message: str) -> int:
    print(f"error: {make_visible(' '.join(message.split()))}", file=sys.stderr)
    return USER_ERROR


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m longlive_core", description="LongLive: films from a timeline of prompts.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    _add_render(commands.add_parser("render", help="render a timeline to an MP4"))
    check = commands.add_parser("check", help="look at model files, say what is wrong, run two chunks")
    _add_files(check)
    check.add_argument(
        "--film",
        nargs="?",
        const="longlive-check",
        metavar="FOLDER",
        help="also render a short story, "
        "and leave film, pictures and a report to paste into an issue there "
        "(default: longlive-check)",
    )
    check.set_defaults(run=_check)
    replay = commands.add_parser("replay", help="run a recorded rollout again, for comparison")
    replay.add_argument("source", metavar="IN.safetensors")
    replay.add_argument("target", metavar="OUT.safetensors")
    replay.set_defaults(run=_replay)
    convert = commands.add_parser("convert", help="rewrite a checkpoint for ComfyUI's own loaders")
    convert.add_argument("source", metavar="IN", help="diffusion model, or with --lora a LoRA")
    convert.add_argument("target", metavar="OUT.safetensors")
    convert.add_argument("--lora", action="store_true", help="IN is a LoRA")
    convert.add_argument("--alpha", type=float, help="alpha of a LoRA whose file states none")
    convert.add_argument("--merge", metavar="LORA", help="merge this LoRA into the model")
    convert.add_argument("--strength", type=float, help="of the merged LoRA (default 1)")
    add_weights(convert)
    convert.add_argument("--int8", action="store_true", help="quantise the blocks' linear layers (docs/int8.md)")
    convert.set_defaults(run=_convert)
    add_takes(commands.add_parser("takes", help="list, show, remove or join the takes of a folder"))
    add_eval(commands.add_parser("eval", help="measure films: adherence, consistency, continuity, drift"))
    add_train(commands.add_parser("train", help="distil or tune a model with LongLive's method (docs/training.md)"))
    add_train_clips(commands.add_parser("train-clips", help="let the teacher make clips for the causal start"))
    add_follow_ups(commands.add_parser("follow-ups", help="let an instruction model write what prompts go on with"))
    return parser


def _add_render(render: argparse.ArgumentParser) -> None:
    add = render.add_argument
    add(
        "timeline",
        metavar="TIMELINE",
        help="a file, '-' for standard input, or the text itself (docs/timeline.md); "
        "or a film of LongLive's: it is rendered again, with the model given here (docs/films.md)",
    )
    add("-o", "--output", metavar="FILM.mp4")
    add("--duration", type=float, metavar="S", help="seconds (default: the timeline's own length)")
    add("--seed", type=int, metavar="N", help="default: 0")
    add("--contact-sheet", metavar="PNG", help="also save pictures of the film with their prompts")
    add(
        "--no-metadata",
        action="store_true",
        help="the film says nothing of how it was made: no tags, subtitles, "
        "chapters, no prompts on the contact sheet; it cannot be rendered again from its file",
    )
    add(
        "--takes",
        metavar="FOLDER",
        help="keep every chunk there: a later render goes on where this one ended, and "
        "renders only what changed (docs/takes.md)",
    )
    add_estimate(render)
    add_beginning(render)
    _add_files(render)
    run = render.add_argument_group("run (defaults come with the model, or the film)")
    run.add_argument(
        "--size",
        choices=CHOICES,
        default=AUTO,
        help="default: auto, what the model was made for; of a film or a take, its own",
    )
    run.add_argument("--width", type=int, metavar="PX", help="instead of --size, together with --height")
    run.add_argument("--height", type=int, metavar="PX")
    run.add_argument("--steps", type=int, metavar="N", help="denoising steps, evenly spaced")
    run.add_argument("--shift", type=float, help="of the flow-matching schedule")
    run.add_argument("--window", type=int, metavar="N", help="latent frames a chunk sees; -1: all")
    run.add_argument("--sink", type=int, metavar="N", help="first latent frames that stay visible")
    run.add_argument("--sink-policy", choices=("held", "refreshed"))
    run.add_argument("--chunk", type=int, metavar="N", help="latent frames denoised together")
    run.add_argument("--positions", choices=("absolute", "relative"))
    render.set_defaults(run=_render)


def _add_files(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("model").add_argument
    add("--model", default="pocket", help="'pocket' (built in) or a file (default: pocket)")
    add("--lora", metavar="PATH", help="LongLive's LoRA, merged into the model")
    add("--lora-strength", type=float, default=1.0, metavar="X", help="of the merged LoRA (default 1)")
    add("--lora-alpha", type=float, metavar="X", help="alpha of a LoRA whose file states none (default: its rank)")
    add_weights(parser)
    add("--text-encoder", metavar="PATH")
    add("--vae", metavar="PATH")
    add("--preset", metavar="NAME", help="settings: longlive-1.3b, self-forcing or pocket (default: by the model)")
    add("--dtype", choices=("auto", "bf16", "fp16", "fp32"), default="auto")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps, ... (default: auto)")


def _file_options(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of Pipeline.load and of check."""
    idle = [
        name
        for name, given in (
            ("--lora-strength", options.lora_strength != 1.0),
            ("--lora-alpha", options.lora_alpha is not None),
        )
        if given
    ]
    if options.lora is None and idle:
        print(f"note: {' and '.join(idle)} has no effect without --lora", file=sys.stderr)
    names = ("model", "lora", "text_encoder", "vae", "dtype", "device", "preset", "lora_strength", "lora_alpha")
    return {**{name: getattr(options, name) for name in names}, "prefer_ema": prefer_ema(options)}


def _render(options: argparse.Namespace) -> None:
    from ..film.video import check_writable

    check_arguments(options)
    source = read_source(options.timeline, continues=options.extend is not None)
    source.plan(options.duration, options.chunk)  # mistakes answer before the model is loaded
    options.seed = source.seed if options.seed is None else options.seed
    _check_outputs(options, check_writable)
    _render_source(options, source)


def _check(options: argparse.Namespace) -> int:
    from ..run.check import check

    files, lines = _file_options(options), []

    def say(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    if options.film is None:
        return 0 if check(**files, say=say) else FAULT
    from ..run.check_film import film_report, require_files

    require_files(options.model, options.text_encoder, options.vae)
    in_order = check(**files, say=say)
    film_report(options.film, files, tuple(lines), in_order, functools.partial(print, flush=True))
    return 0 if in_order else FAULT


def _check_outputs(options: argparse.Namespace, check_writable: Callable[[str], None]) -> None:
    if options.output is not None:
        if Path(options.output).suffix.lower() != ".mp4":
            raise ValueError(f"the film is an MP4, so '{options.output}' must end in .mp4")
        check_writable(options.output)
    if options.contact_sheet is not None:
        if Path(options.contact_sheet).suffix.lower() != ".png":
            raise ValueError(f"the contact sheet is a PNG, so '{options.contact_sheet}' must end in .png")
        check_writable(options.contact_sheet)


def _render_source(options: argparse.Namespace, source: Source) -> None:
    from tqdm import tqdm

    from ..film.contact_sheet import contact_sheet
    from ..film.tags import film_metadata
    from ..film.video import FilmInUse
    from ..run.pipeline import Pipeline
    from ..run.render import render_film, render_stored
    from ..run.speed import SpeedBook
    from ..takes import TakeStore

    store = None
    if options.takes is not None:
        store = TakeStore(options.takes, options.takes_limit, create=not options.dry_run)
    stream, plan, (width, height) = _check_settings(options, source, store)
    beginning = read_beginning(options, store, plan, (width, height))
    plan, text = beginning.plan, source.text if options.extend is None else plan_text(beginning.plan)
    model = Path(options.model).name
    source.note_model(model)
    pipeline = Pipeline.load(**_file_options(options))
    print(
        "\n".join([plan.describe(), *(f"hint: {make_visible(cut)}" for cut in pipeline.text.cuts(plan.texts))]),
        flush=True,
    )
    if options.dry_run:
        dry_run(pipeline, plan, options, store, text, stream, (width, height), beginning.given)
        return
    told = not options.no_metadata
    metadata = film_metadata(text, plan, stream, options.seed, (width, height), model) if told else None
    began, film = time.perf_counter(), options.output
    with tqdm(total=plan.frames, unit="frame", file=sys.stderr) as bar:

        def show(done: int, frames: int) -> None:
            bar.set_postfix_str(f"chunk {done}/{plan.chunks}", refresh=False)
            bar.update(frames)

        run = {
            "stream": stream,
            "seed": options.seed,
            "size": (width, height),
            "metadata": metadata,
            "subtitles": told,
            "on_chunk": show,
            "say": bar.write,
            "book": SpeedBook(),
        }
        try:
            if store is None:
                render_film(pipeline, plan, options.output, **run)
            else:
                render_stored(pipeline, plan, options.output, store, timeline=text, given=beginning.given, **run)
        except FilmInUse as error:
            print(f"note: {error}", file=sys.stderr)
            film = error.kept
        except KeyboardInterrupt:
            if bar.n:
                print(f"{options.output} holds the first {count(int(bar.n), 'frame')}", file=sys.stderr)
            raise
        frames = int(bar.n)
    seconds = time.perf_counter() - began
    speed = f" ({frames / seconds:.1f} frames/s)" if store is None else ""  # stored ones would count as rendered
    print(f"{film}: {count(frames, 'frame')}, {width} x {height}, in {seconds:.1f} s{speed}")
    if options.contact_sheet is not None:
        prompts = [(segment.start_seconds, segment.text) for segment in plan.segments] if told else None
        stills = contact_sheet(film, options.contact_sheet, prompts=prompts)
        print(f"{options.contact_sheet}: {count(stills, 'picture')}")


def _check_settings(
    options: argparse.Namespace,
    source: Source,
    store: TakeStore | None,
) -> tuple[StreamConfig, Plan, tuple[int, int]]:
    """Settings, plan and size of the run; whatever cannot work is told here, before minutes of loading."""
    from ..engine.noise import AddressedNoise
    from ..run.pipeline import default_size, own_preset, settings_for
    from ..run.render import check_device

    check_device(options.device)
    preset, film = settings_for(options.model, options.preset), source.film
    stream = _stream(preset if film is None or options.preset else film.stream, options)
    plan = source.plan(options.duration, stream.chunk)
    stream.check_length(plan.longest_shot)
    own = default_size(options.model) if film is None else film.size
    if options.extend is not None and store is not None:  # it can have no other size
        with contextlib.suppress(ValueError):  # what is wrong with it is said where it is read
            own = tuple(store.read_manifest(options.extend).origin["size"])
    size = film_size(options.size, options.width or 0, options.height or 0, own_preset(options.model), own)
    AddressedNoise(options.seed)
    return stream, plan, size


def _stream(preset: StreamConfig, options: argparse.Namespace) -> StreamConfig:
    """The model's preset with what the user set; StreamConfig checks the whole."""
    from dataclasses import replace

    names = ("shift", "window", "sink", "sink_policy", "chunk", "positions")
    changes = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.steps is not None:
        changes["denoising_steps"] = preset.even_steps(options.steps)
    return replace(preset, **changes)


def _replay(options: argparse.Namespace) -> None:
    from ..run.replay import replay

    for name, difference in replay(options.source, options.target).items():
        print(f"{name}: largest difference from the recording {difference:.3g}")


def _convert(options: argparse.Namespace) -> None:
    from ..checkpoints import convert_lora, convert_model

    _check_convert(options)
    if options.lora:
        target = convert_lora(options.source, options.target, alpha=options.alpha)
    else:
        target = convert_model(
            options.source,
            options.target,
            lora=options.merge,
            lora_alpha=options.alpha,
            strength=1.0 if options.strength is None else options.strength,
            int8=options.int8,
            prefer_ema=prefer_ema(options),
        )
    print(f"wrote {target}{_int8_note(target) if options.int8 else ''}")


def _check_convert(options: argparse.Namespace) -> None:
    """ValueError for options that would do nothing."""
    given = {
        "--merge": options.merge is not None,
        "--weights": prefer_ema(options) is not None,
        "--int8": options.int8,
        "--strength": options.strength is not None,
    }
    idle = next((name for name, there in given.items() if there and options.lora), None)
    if idle is not None:
        raise ValueError(f"{idle} needs a diffusion model, but --lora says that IN is a LoRA")
    if options.merge is None and options.strength is not None:
        raise ValueError(
            f"--strength {options.strength:g} is of a LoRA to merge: give it with --merge LORA, or leave it out"
        )
    if options.merge is None and not options.lora and options.alpha is not None:
        raise ValueError(
            f"--alpha {options.alpha:g} is a LoRA's: give that with --merge LORA, or convert a LoRA with --lora"
        )


def _int8_note(path: Path) -> str:
    from ..checkpoints import read_file
    from ..quant import block_linear_bytes, int8_layers

    weights, _ = read_file(path)
    size = block_linear_bytes(weights) / 2**20
    return f" (INT8: {count(len(int8_layers(weights)), 'layer')} of the blocks, {size:.1f} MB)"


if __name__ == "__main__":
    sys.exit(main())
