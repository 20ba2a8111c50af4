"""Options in braces at the end of a prompt: the transition, `{seed=7}` and `{blend=2s}`; and how segments are built.

`OPTIONS` is the one table of options; an option that is not in it is an error and is never ignored. How to add one is
described at the end of docs/timeline.md.
"""

from __future__ import annotations

import difflib
import re
from typing import Any

from ..config import TRANSITIONS
from ..words.wording import truncate
from .folding import fold, lstrip, rstrip
from .limits import check_prompt
from .syntax import Segment, Time, TimelineError
from .times import parse_time

# Equal to longlive_core.engine.noise.MAX_SEED, whose module needs torch; a test compares them.
MAX_SEED = 2**64 - 1
# Name -> example of how it is written.
OPTIONS = {name: f"{{{name}}}" for name in TRANSITIONS} | {"seed": "{seed=7}", "blend": "{blend=2s}"}
VALUED = tuple(name for name in OPTIONS if name not in TRANSITIONS)  # `{name=value}`
_ALL_OPTIONS = f"{', '.join(list(OPTIONS.values())[:-1])} or {OPTIONS['blend']}"
# A longer run of digits is out of range; converting it would take long or raise an error of Python's own.
_LONGEST_OPTION = 60
_LONGEST_SEED = len(str(MAX_SEED))
_OPENING = "{\uff5b\ufe5b"
_KNOWN = re.compile(rf"\s*(?:{'|'.join(OPTIONS)})\s*(?:[=,;]|$)", re.IGNORECASE)
_WRITTEN = rf"((?:{'|'.join(TRANSITIONS)})|(?:{'|'.join(VALUED)})\s*=\s*[\w.:]*\w)"
_LOOKALIKE = re.compile(
    rf"\(+\s*{_WRITTEN}\s*\)+$|\[+\s*{_WRITTEN}\s*\]+$|<+\s*{_WRITTEN}\s*/?\s*>+$"
    rf"|\{{\{{\s*{_WRITTEN}\s*\}}\}}$"
    rf"|(?<!\S)(?:--?|[~/@\#\\]){_WRITTEN}~?$|\*{{1,2}}{_WRITTEN}\*{{1,2}}$|\|\s*{_WRITTEN}\s*\|?$",
    re.IGNORECASE,
)


def split_options(text: str, line: int, column: int) -> tuple[str, dict[str, Any]]:
    """Split the options in braces from the end of a prompt.

    text: the prompt; its first character is at `column`. Returns the prompt without options, and the options by the
    names of Segment's fields. Braces inside the prompt are text.
    """
    body, options = rstrip(text), []
    _refuse_lookalikes(body, line, column)
    while (start := _last_braces(body, line, column)) is not None:
        options = _options_between(body, start, line, column) + options
        body = rstrip(body[:start])
    unclosed = body.rfind("{")
    if unclosed > body.rfind("}"):
        raise TimelineError(
            f"'{body[unclosed:][:20]}' has no closing brace; options are at the end of a prompt, as in {{keep}}",
            line,
            column + unclosed,
        )
    return body, _read_options(options, line)


def _last_braces(body: str, line: int, column: int) -> int | None:
    """Return the index of the brace that opens the last options; full-width ones count if an option is inside."""
    if not body or fold(body[-1]).text != "}":
        return None
    start = max(body.rfind(brace) for brace in _OPENING)
    if body[-1] != "}" and (start < 0 or not _KNOWN.match(fold(body[start + 1 : -1]).text)):
        return None
    if start < 0:
        raise TimelineError("a '}' without its '{' at the end of the prompt", line, column + len(body) - 1)
    return start


def _refuse_lookalikes(body: str, line: int, column: int) -> None:
    """Raise TimelineError for an option in other signs at the end: `(cut)`, `[keep]`, `--cut` and the like."""
    folded = fold(body)
    if match := _LOOKALIKE.search(folded.text, max(0, len(folded.text) - _LONGEST_OPTION)):
        option = next(part for part in match.groups() if part is not None)
        raise TimelineError(
            f"'{match[0].strip()}' is not an option; write {{{option.strip().lower()}}} (if it is text, put a "
            "full stop after it)",
            line,
            column + folded.at[match.start()],
        )


def _options_between(body: str, start: int, line: int, column: int) -> list[tuple[str, int]]:
    """Return the comma-separated options of the brace that opens at body[start], each with its column."""
    inner, options, at = fold(body[start + 1 : -1]), [], 0
    for part in re.split("[,;]", inner.text):
        options.append((part.strip(), column + start + 1 + inner.at[at + len(part) - len(part.lstrip())]))
        at += len(part) + 1
    if not any(name for name, _ in options):
        raise TimelineError(f"empty braces; options are {_ALL_OPTIONS}", line, column + start)
    return options


def _read_options(options: list[tuple[str, int]], line: int) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for option, column in options:
        kind, value = _read_option(option, line, column)
        if kind == "transition" and values.get(kind, value) != value:
            raise TimelineError(
                f"{{{value}}} contradicts {{{values[kind]}}}; a segment has one transition", line, column
            )
        if kind in values:
            raise TimelineError(f"{{{_quoted(option)}}} is given twice; a segment has one {kind}", line, column)
        values[kind] = value
        if "blend" in values and values.get("transition", "recache") != "recache":
            raise TimelineError(
                f"{{{values['transition']}}} and {{blend={values['blend']}}} contradict each other: a blend recaches "
                "at every chunk; remove one of them",
                line,
                column,
            )
    return values


def _read_option(option: str, line: int, column: int) -> tuple[str, Any]:
    """Return the field of Segment that an option sets, and its value."""
    name, has_value, value = (part.strip() for part in option.partition("="))
    lowered = name.lower()
    if lowered not in OPTIONS:
        near = difflib.get_close_matches(lowered, OPTIONS, n=1)
        guess = f" (did you mean {OPTIONS[near[0]]}?)" if near else ""
        raise TimelineError(
            f"unknown option {{{_quoted(option)}}}{guess}; options at the end of a prompt are {_ALL_OPTIONS}",
            line,
            column,
        )
    if lowered in TRANSITIONS:
        if has_value:
            raise TimelineError(f"{{{_quoted(option)}}}: '{lowered}' takes no value; write {{{lowered}}}", line, column)
        return "transition", lowered
    if not value:
        raise TimelineError(f"{{{option}}} has no value; write {OPTIONS[lowered]}", line, column)
    return lowered, _READERS[lowered](value, line, column)


def _read_seed(value: str, line: int, column: int) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", value):
        raise TimelineError(f"the seed '{_quoted(value)}' is not a whole number; write {{seed=7}}", line, column)
    digits = value.lstrip("+-").lstrip("0") or "0"
    if value.startswith("-") or len(digits) > _LONGEST_SEED or int(digits) > MAX_SEED:
        raise TimelineError(f"the seed {_quoted(value)} is out of range; seeds go from 0 to {MAX_SEED}", line, column)
    return int(digits)


def _read_blend(value: str, line: int, column: int) -> Time:
    try:
        time = parse_time(value, line, column)
    except TimelineError:
        time = Time(chunk=0)
    if time.is_zero:  # parse_time's own messages are about a position in the film, not a length
        raise TimelineError(
            f"a blend cannot last '{_quoted(value)}'; write a time above 0, as {{blend=2s}} or {{blend=3c}}",
            line,
            column,
        )
    return time


_READERS = {"seed": _read_seed, "blend": _read_blend}


def _quoted(written: str) -> str:
    """Return an option or its value as a message quotes it."""
    return truncate(written, 40)


def write_options(transition: str, seed: int | None, blend: Time | None) -> str:
    """Return the options that differ from the defaults, after a space: the inverse of split_options."""
    written = [] if transition == "recache" else [transition]
    if seed is not None:
        written.append(f"seed={seed}")
    if blend is not None:
        written.append(f"blend={blend}")
    return f" {{{', '.join(written)}}}" if written else ""


def make_segment(
    raw: str, line: int, column: int, time: Time | None = None, end: Time | None = None, start: int | None = None
) -> Segment:
    """Build a segment from a prompt with its options.

    column: that of raw[0]. start: the column where the segment starts, if that is not its text.
    """
    stripped = lstrip(raw)
    column += len(raw) - len(stripped)
    body, options = split_options(stripped, line, column)
    if not body:
        where = "" if time is None else f" at {time}"
        raise TimelineError(f"the segment{where} has no text; write what the film shows there", line, column)
    check_characters(body, line, column)
    transition = options.pop("transition", "recache")
    return Segment(body, time, transition, line, start or column, end, **options)


def check_characters(text: str, line: int, column: int) -> None:
    """Raise TimelineError for a text too long for a prompt, or one that no tokenizer or film's tags can hold."""
    check_prompt(text, line, column)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        what = "the text has half of a surrogate pair, which is not a character; remove it"
        raise TimelineError(what, line, column) from error
    if "\0" in text:  # a film's tags would end there
        raise TimelineError("the text has a NUL character; remove it", line, column)
