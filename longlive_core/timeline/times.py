r"""Times as people write them: 12s, 12.5 sec, 1m30s, 0:12, 00:00:12,500, 16c (chunks), 80f (frames).

The patterns match folded lines (folding.py): `TIME` one written time, `NUMBER` one without its unit.
"""

from __future__ import annotations

import re

from .folding import fold
from .syntax import TIME_FORMS, Time, TimelineError

# Bounded, so that a page of digits does not take long.
NUMBER = r"(?:[0-9]{1,40}(?:[.,][0-9]{0,40})?|\.[0-9]{1,40})"
# Not inside a word: `5st` and `8mm` are not times, but `5s` before a Chinese word is.
_ENDS = r"(?![A-Za-z\u00c0-\u024f\u0400-\u04ff0-9])"
# Unit: its letter, which directly follows the number, its words, and those of scripts without spaces.
_UNITS = {
    "h": ("h", "hrs?|hours?|stunden?", "\u5c0f\u65f6|\u6642\u9593|\uc2dc\uac04"),
    "m": ("m", "mins?|minutes?|minuten?", "\u5206[\u949f\u9418\u9593]?|\ubd84"),
    "s": (
        "s|\u0441",
        "s|secs?|seconds?|sek|sekunden?|secondes?|segundos?|\u0441\u0435\u043a",
        "\u79d2[\u949f\u9418\u9593\u76ee]?|\ucd08",
    ),
    "ms": ("ms", "ms|msecs?|millis|milliseconds?", "\u6beb\u79d2"),
    "c": ("c", "chunks?", "\u5757"),
    "f": ("f|fr", "frames?", "\u5e27|\u5e40|\u30d5\u30ec\u30fc\u30e0|\ud504\ub808\uc784"),
}
_SECONDS_OF = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}
UNIT_OF_WORD = {
    word: unit
    for unit, words in {
        "s": "second seconds sec secs s",
        "m": "minute minutes min",
        "f": "frame frames f",
        "c": "chunk chunks",
    }.items()
    for word in words.split()
}


def _part(unit: str, ends: str = _ENDS) -> str:
    letter, words, other = _UNITS[unit]
    return rf"{NUMBER}(?:(?:{letter}){ends}|\s{{0,2}}(?:{words}){ends}|\s?(?:{other}))"


_SECONDS = _part("s")
_TAIL = rf"[0-5][0-9]{_ENDS}"
# 1m30s and 1m30, but not 5m3.
_OPEN = rf"(?:{_ENDS}|(?={_SECONDS})|(?={_part('m', '')})|(?={_TAIL}))"
_HOURS, _MINUTES = _part("h", _OPEN), _part("m", _OPEN)
_FROM_MINUTES = rf"{_MINUTES}(?:\s?{_SECONDS}|{_TAIL})?"
_UNITED = rf"(?:{_HOURS}(?:\s?{_FROM_MINUTES}|\s?{_SECONDS}|{_TAIL})?|{_FROM_MINUTES}|{_SECONDS}|{_part('ms')})"
_CLOCK = (
    r"[0-9]{1,40}:[0-9]{2}(?::[0-9]{2})?(?:[:;]00)?(?:\.[0-9]{1,40}|,[0-9]{2,3}(?![0-9:]))?(?![0-9])"
    rf"(?:s{_ENDS}|\s?min(?:utes?)?{_ENDS})?(?![:.;]?[0-9])(?!,[0-9]+(?![0-9:]))"
)
_PRIMES = r"[0-9]{1,40}'\s?[0-5][0-9](?:\"|'')?(?![0-9:'])"
TIME = rf"(?:{_CLOCK}|{_PRIMES}|{_part('c')}|{_part('f')}|{_UNITED})"

_COUNTED = re.compile(rf"({NUMBER})\s*(?:({_part('c').removeprefix(NUMBER)})|{_part('f').removeprefix(NUMBER)})", re.I)
_PIECES = {
    unit: re.compile(rf"({NUMBER})(?:{_part(unit, '(?![A-Za-z])').removeprefix(NUMBER)})", re.I) for unit in _SECONDS_OF
}
_CLOCKED = re.compile(r"(?:([0-9]+):)?([0-9]+):([0-9]{2}(?:[.,][0-9]+)?)(?:s|\s?min(?:utes?)?)?", re.I)
_TIMECODE = re.compile(r"([0-9]+:[0-9]{2}:[0-9]{2})[:;]([0-9]{2})")
_PRIMED = re.compile(r"([0-9]+)'\s?([0-5][0-9])(?:\"|'')?")
_WHOLE = re.compile(TIME, re.I)
_THOUSANDS = re.compile(r"[0-9]{1,3},[0-9]{3}(?![0-9])(?!\s*ms)", re.I)
# Number with a unit (12s, -5s), or with a colon (0:12, 10:). A bare number is text: "3 pandas walk".
_SIGNED = r"[+-]?[0-9.][0-9.,:]*"
_ANY_UNIT = r"(?:s|secs?|seconds?|c|chunks?|ms|m|mins?|minutes?|h|hours?|f|frames?)"
_TIME_LIKE = re.compile(rf"{_SIGNED}{_ANY_UNIT}(?:[0-9.]+{_ANY_UNIT})?[:,]?|[+-]?[0-9.,]*[0-9]:[0-9.,:]*[,]?", re.I)
# More digits are longer than any film; without a limit Python would convert million-digit integers.
_LONGEST = 32


def looks_like_time(token: str) -> bool:
    """Return whether a word at the start of a line is meant as a time, valid or not."""
    return _TIME_LIKE.fullmatch(token) is not None


def parse_time(token: str, line: int, column: int) -> Time:
    """Read a time in any of its forms. Raises TimelineError with this line and column for anything else."""
    folded = fold(token.strip()).text.strip()
    if len(folded) > _LONGEST:
        raise TimelineError(f"the time '{token[:12]}...' has too many digits", line, column)
    if _THOUSANDS.match(folded):
        raise TimelineError(
            f"'{token}' is ambiguous: write {folded.replace(',', '')} or {folded.replace(',', '.')}",
            line,
            column,
        )
    time = read_time(folded) if _WHOLE.fullmatch(folded) else None
    if time is None:
        raise TimelineError(_what_is_wrong(folded), line, column)
    return time


def read_time(token: str) -> Time | None:
    """Return the time that `TIME` matched, or None if it is not a valid clock time or whole number of chunks."""
    if match := _COUNTED.fullmatch(token):
        if not match[1].isdigit():
            return None
        return Time(chunk=int(match[1])) if match[2] else Time(frame=int(match[1]))
    if match := _TIMECODE.fullmatch(token):
        token = match[1]
    if match := _CLOCKED.fullmatch(token):
        seconds = float(match[3].replace(",", "."))
        if seconds >= 60 or (match[1] is not None and int(match[2]) >= 60):
            return None
        return Time(seconds=int(match[1] or 0) * 3600 + int(match[2]) * 60 + seconds)
    if match := _PRIMED.fullmatch(token):
        return Time(seconds=float(int(match[1]) * 60 + int(match[2])))
    return _read_united(token)


def _read_united(token: str) -> Time:
    seconds, rest, below = 0.0, token, 1
    for unit, each in _SECONDS_OF.items():
        if match := _PIECES[unit].match(rest):
            seconds += float(match[1].replace(",", ".")) * each
            rest, below = rest[match.end() :].strip(), each / 60
    if rest:  # 1m30, 1h30
        seconds += int(rest) * below
    return Time(seconds=round(seconds, 9))


def with_unit(number: str, unit: str) -> Time | None:
    """Return the time of a number whose unit is elsewhere: before it (`frame 16`), at the range's end (`0-5s`)."""
    value = float(number.replace(",", "."))
    if unit in "cf":
        if not value.is_integer():
            return None
        return Time(chunk=int(value)) if unit == "c" else Time(frame=int(value))
    return Time(seconds=value * _SECONDS_OF[unit])


def unit_of(token: str) -> str | None:
    """Return the single unit of a written time, which a number beside it shares; None for 0:05 and 1m30s."""
    for unit in _UNITS:
        if re.fullmatch(_part(unit), token, re.I):
            return unit
    return None


def _what_is_wrong(token: str) -> str:
    if token.startswith("-"):
        return f"the time '{token}' is negative; the film starts at 0s"
    if token.startswith("+"):
        return f"'{token}' is not a time: times count from the film's start, so write them without '+'"
    if re.fullmatch(_TIMECODE, token):
        return (
            f"'{token}' is not a time: its last part counts frames at another frame rate; write 0:12.5 or 16f (frames)"
        )
    return (
        f"'{token}' is not a time; write {TIME_FORMS} (if it belongs to the prompt, write a time before it: "
        f"'0s {token} ...')"
    )
