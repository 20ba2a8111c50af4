"""Lists of objects, one per prompt: `[{"time": 0, "prompt": "..."}]`, `{"shots": [{"duration": 5, "prompt": "..."}]}`.

Times are starts (`time`, `start`), ends or lengths (`duration`). They are texts with a unit, or numbers whose unit is
in the key (`start_frame`, `time_ms`); other numbers are seconds, and a hint says so.
"""

from __future__ import annotations

import re
from typing import Any

from ...config import TRANSITIONS
from ..folding import one_line
from ..options import make_segment
from ..syntax import Segment, Time, TimelineError
from ..times import parse_time, with_unit
from .heads import find_head
from .json_values import finite, kind_of, place_of

_TEXTS = (
    "prompt",
    "text",
    "caption",
    "description",
    "content",
    "visual",
    "value",
    "positive",
    "positiveprompt",
    "textprompt",
    "promptpositive",
    "visualdescription",
    "videoprompt",
    "shotprompt",
    "action",
)


def _named(words: str, **units: str) -> dict[str, str]:
    """Return normalised key -> unit of its bare numbers; "?" is a guess, seconds, that a hint reports."""
    return dict.fromkeys(words.split(), "?") | {word: unit for unit, words in units.items() for word in words.split()}


_STARTS = _named(
    "start starttime starts range timerange interval begin begintime from time t at timestamp timecode offset in when",
    s="startsec startsecs startseconds starts timesec timeseconds times timestampseconds sec startinseconds",
    ms="startms starttimems timems tms milliseconds timestampms offsetms beginms startmilliseconds",
    f="frame startframe framestart frameindex frameidx frameno framenumber keyframe fromframe",
    c="chunk startchunk",
)
_ENDS = _named(
    "end endtime ends to until stop stoptime out till finish",
    s="endsec endsecs endseconds endinseconds",
    ms="endms endtimems endmilliseconds stopms",
    f="endframe frameend toframe",
    c="endchunk",
)
_LENGTHS = _named(
    "duration length dur len durationtime lasts",
    s="durationsec durationsecs durationseconds durations lengthseconds lengthsec durationinseconds",
    ms="durationms durationmilliseconds lengthms",
    f="numframes framecount nframes durationframes lengthframes durationinframes frames",
    c="numchunks chunks durationchunks",
)
_SECONDS = "seconds"  # a length; 0 is a start
_TIME_FORMS = 'it must be a number of seconds, or a text such as "5s"'
_HINT = 'numbers without a unit ("{}": {}) are read as seconds; "16f" are frames, "16c" chunks'


def has_time(entry: dict) -> bool:
    """Return whether an object has a key for a start or a length."""
    return any(_plain(key) in _STARTS or _plain(key) in _LENGTHS or _plain(key) == _SECONDS for key in entry)


def read_objects(entries: list[dict], place: tuple[int, int]) -> tuple[list[Segment], str, list[str]]:
    """Return the segments, their notation ("entries", or "json" without times) and hints.

    place: line and column for messages about an object without keys.
    """
    read = [_Entry(entry, index, place) for index, entry in enumerate(entries, 1)]
    _check_consistent(read)
    segments, at = [], None
    for entry in read:
        start = at if entry.start is None else entry.start
        end = entry.end
        if entry.length is not None:
            start = _zero_like(entry.length) if start is None else start
            end = _added(start, entry.length, entry)
        if start is not None and end is not None and end.compare(start) in (-1, 0):
            raise entry.error(f"ends at {end.brief()}, but starts at {start.brief()}")
        segments.append(make_segment(one_line(entry.text), *entry.text_place, start, end))
        at = end
    return segments, "json" if segments[0].time is None else "entries", _hints(read)


class _Entry:
    """One object: its text, its times and the keys that are not used."""

    def __init__(self, data: dict, index: int, place: tuple[int, int]):
        self.index, self.place = index, place_of(data, place)
        self.unused: list[str] = []
        self.guessed: tuple[str, Any] | None = None
        self.start = self.end = self.length = None
        texts, options = {}, []
        for key, value in data.items():
            name = _plain(key)
            if value is None:
                continue
            if name in _TEXTS and isinstance(value, str):
                texts[name] = value
            elif name in _STARTS:
                self._read_start(key, value, _STARTS[name])
            elif name in _ENDS:
                self.end = self._time(key, value, _ENDS[name])
            elif name in _LENGTHS or name == _SECONDS:
                self._read_length(key, value, _LENGTHS.get(name, "s"))
            elif (option := _option(name, value)) is not None:
                options.append(option)
            else:
                self.unused.append(key)
        if not texts:
            raise self.error('has no text; write it as "prompt"')
        name = next(name for name in _TEXTS if name in texts)
        self.unused += [other for other in texts if other != name and texts[other] != texts[name]]
        text = texts[name]
        self.text_place = (text.line, text.column)
        self.text = text + (f" {{{', '.join(options)}}}" if options else "")

    def error(self, what: str) -> TimelineError:
        return TimelineError(f"entry {self.index} {what}", *self.place)

    def _read_start(self, key: str, value: Any, unit: str) -> None:
        head = find_head(value, key.line) if isinstance(value, str) else None
        if head is not None and head.ranged and not head.text.strip():
            if head.bare:
                raise self.error(f'has the range "{value}" without a unit; write "0s-5s", or "0f-80f" for frames')
            self.start, self.end = head.start, head.end
            return
        self.start = self._time(key, value, unit)

    def _read_length(self, key: str, value: Any, unit: str) -> None:
        if _plain(key) == _SECONDS and value == 0:
            self.start = Time(seconds=0.0)
            return
        self.length = self._time(key, value, unit)
        if self.length.is_zero:
            raise self.error(f'has the length "{key}" {value}; it must be above 0')

    def _time(self, key: str, value: Any, unit: str) -> Time:
        """Return the time of a text with a unit, or of a number whose unit is in its key."""
        if isinstance(value, str) and not re.fullmatch(r"\s*[0-9]+(?:\.[0-9]+)?\s*", value):
            return parse_time(value, value.line, value.column)
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise self.error(f'has the time "{key}" {kind_of(value)}; {_TIME_FORMS}')
        number = float(value) if isinstance(value, str) or finite(value) else float("nan")
        if number != number or abs(number) > 1e9:
            raise self.error(f'has the time "{key}" {value!s:.20}; {_TIME_FORMS}')
        if number < 0:
            raise self.error(f'has the time "{key}" {value}; times cannot be negative')
        if unit == "?" and number and self.guessed is None:
            self.guessed = (key, value)
        time = with_unit(f"{number:.9f}".rstrip("0").rstrip("."), "s" if unit == "?" else unit)
        if time is None:
            what = "frame" if unit == "f" else "chunk"
            raise self.error(f'has the {what} "{key}" {value}; it must be a whole number')
        return time


def _plain(key: str) -> str:
    return re.sub(r"[\W_]", "", key).lower()


def _option(name: str, value: Any) -> str | None:
    """Return the option (`cut`, `seed=7`) that a key means, or None if it could mean something else."""
    if name == "transition" and isinstance(value, str) and value.strip().lower() in TRANSITIONS:
        return value.strip().lower()
    if name in TRANSITIONS and value is True:
        return name
    if name == "seed" and isinstance(value, int) and not isinstance(value, bool):
        return f"seed={value}"
    if name == "blend" and isinstance(value, str):
        return f"blend={value}"
    return None


def _check_consistent(entries: list[_Entry]) -> None:
    """Raise TimelineError unless all entries have a start, all have a length, or none has either."""
    first = entries[0]
    for entry in entries[1:]:
        if (entry.start is None) != (first.start is None) and (entry.length is None or first.length is None):
            raise entry.error(
                f"has {'no' if entry.start is None else 'a'} start, but entry 1 has "
                f"{'one' if first.start else 'none'}; "
                'give every entry a "time"'
            )
        if entry.start is None and (entry.length is None) != (first.length is None):
            raise entry.error(
                f"has {'no' if entry.length is None else 'a'} length, but entry 1 has "
                f'{"one" if first.length else "none"}; give every entry a "duration", or none'
            )
    for entry in entries:
        if entry.start is None and entry.length is None and entry.end is not None:
            raise entry.error('has an end, but no start; give every entry a "start"')


def _zero_like(length: Time) -> Time:
    if length.chunk is not None:
        return Time(chunk=0)
    return Time(frame=0) if length.frame is not None else Time(seconds=0.0)


def _added(start: Time, length: Time, entry: _Entry) -> Time:
    if start.chunk is not None and length.chunk is not None:
        return Time(chunk=start.chunk + length.chunk)
    if start.frame is not None and length.frame is not None:
        return Time(frame=start.frame + length.frame)
    if start.seconds is not None and length.seconds is not None:
        return Time(seconds=round(start.seconds + length.seconds, 6))
    raise entry.error(f"starts at {start}, but lasts {length}; write both in seconds, or both in frames")


def _hints(entries: list[_Entry]) -> list[str]:
    hints = [_HINT.format(*entry.guessed) for entry in entries if entry.guessed][:1]
    unused = dict.fromkeys(key for entry in entries for key in entry.unused)
    if unused:
        hints.append(f"not used from the JSON's entries: {', '.join(unused)}")
    return hints
