"""`python -m longlive_core follow-ups`: an instruction model writes the follow-ups of training prompts."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ..words.wording import count
from .numbers import positive

if TYPE_CHECKING:
    from ..train.data.follow_ups import Ask, Failure
    from ..train.data.pair_file import PairFile
    from ..train.data.prompt_files import PromptPair

FAULT = 1


def add_follow_ups(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments; torch is imported only when the command runs."""
    add = parser.add_argument
    add("prompts", metavar="PROMPTS", help="a .txt with one prompt per line, or a .jsonl (docs/training-data.md)")
    add(
        "--model",
        required=True,
        metavar="FOLDER",
        help="an instruction model that transformers can load, or its name on the Hugging Face hub",
    )
    add("--out", required=True, metavar="PAIRS.jsonl", help="the file of pairs to write")
    add("--resume", action="store_true", help="continue an existing file; its pairs are kept")
    add("--limit", type=positive, metavar="N", help="only the first N prompts")
    add("--batch", type=positive, default=8, metavar="N", help="prompts per batch (default 8)")
    add(
        "--attempts",
        type=positive,
        default=4,
        metavar="N",
        help="attempts per prompt, each with another seed (default 4)",
    )
    add(
        "--max-tokens",
        type=positive,
        default=512,
        metavar="N",
        help="tokens per answer, including thoughts (default 512)",
    )
    add("--seed", type=_seed, default=0, metavar="N", help="seed of the answers (default 0)")
    add("--plain", action="store_true", help="prompt in plain text, for a model without a chat template")
    add("--dtype", choices=("auto", "bf16", "fp16", "fp32"), default="auto")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps, ... (default: auto)")
    parser.set_defaults(run=_follow_ups)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"'{text}' is not a seed; allowed are 0 to {2**32 - 1}")
    return int(text)


def _follow_ups(options: argparse.Namespace) -> int:
    from ..run.pipeline import check_device
    from ..train.data.pair_file import PairFile, missing_prompts
    from ..train.data.prompt_files import read_prompts

    check_device(options.device)
    prompts = read_prompts(options.prompts)
    file = PairFile(options.out, options.resume)
    places = [place for place in missing_prompts(prompts, file) if place < (options.limit or len(prompts))]
    kept = len(file.pairs)
    if kept:
        sys.stderr.write(f"{options.out}: {kept} pairs are already written\n")
    with file:
        if file.torn is not None:
            sys.stderr.write(f"{options.out}: dropped the last line, which was cut off: {file.torn[:60]!r}\n")
        failures = _write(options, prompts, places, file) if places else []
    for failure in failures:
        sys.stderr.write(f"prompt {failure.number}, {failure.prompt[:60]!r}: {failure.reason}\n")
    written, failed = count(len(file.pairs) - kept, "pair"), count(len(failures), "prompt")
    sys.stdout.write(f"{options.out}: {written} written, {failed} failed\n")
    if failures:
        sys.stderr.write("run the command again with --resume and another --seed to retry those that failed\n")
    return FAULT if failures else 0


def _write(options: argparse.Namespace, pairs: list[PromptPair], places: list[int], file: PairFile) -> list[Failure]:
    from torch.cuda import OutOfMemoryError
    from tqdm import tqdm

    from ..train.data.follow_ups import write_follow_ups

    failures: list[Failure] = []
    ask = _load(options) if any(pairs[place].follow_up is None for place in places) else _no_model
    batches = write_follow_ups(
        pairs, places, file, ask, seed=options.seed, batch=options.batch, attempts=options.attempts
    )
    try:
        with tqdm(total=len(places), unit="prompt", file=sys.stderr) as bar:
            for done, failed in batches:
                failures += failed
                bar.set_postfix_str(f"{len(failures)} failed", refresh=False)
                bar.update(done)
    except OutOfMemoryError as error:
        raise ValueError(
            f"not enough memory for a batch of {count(options.batch, 'prompt')} ({error}); lower "
            "--batch and add "
            f"--resume: the {len(file.pairs)} written pairs are kept"
        ) from error
    except KeyboardInterrupt:
        sys.stderr.write(f"{options.out} holds {len(file.pairs)} pairs; continue with --resume\n")
        raise
    return failures


def _load(options: argparse.Namespace) -> Ask:
    from ..device.precision import resolve_dtype
    from ..run.pipeline import resolve_device
    from ..train.data.instruction_model import InstructionModel

    device = resolve_device(options.device)
    return InstructionModel.load(
        options.model, device, resolve_dtype(options.dtype, device), options.plain, options.max_tokens
    )


def _no_model(instructions, seed):
    """Stand in for the model when every prompt has a follow-up."""
    assert not instructions, "every prompt has a follow-up"
    return []
