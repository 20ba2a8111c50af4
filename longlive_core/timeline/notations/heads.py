"""The head of a line: the time or range in front of a prompt, with the signs and words that people put around it.

    0s text          0:00-0:05 text       - **0s:** text       Scene 1 (0s - 5s): text
    at 5s, text      from 0 to 5 s: text  [0:05] text          frame 16: text

This file decides where a head ends and its prompt begins. Whether an uncertain head counts (`5 seconds of rain`) is
decided in lines.py, which sees the other lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ..folding import Folded, fold
from ..syntax import Time, TimelineError
from ..times import NUMBER, TIME, UNIT_OF_WORD, looks_like_time, parse_time, unit_of, with_unit

_COUNT = rf"[0-9]{{1,3}}(?=\s{{1,40}}{TIME})"
_BULLET = (
    rf"(?:(?:[-*+\u2022>]|\#{{1,6}}|\[[ xX]?\]|[0-9]{{1,3}}[.)]|\([0-9]{{1,3}}\)|[a-zA-Z][.)]|{_COUNT})\s{{1,40}})"
)
_MARK = r"(?:\*{1,3}|_{1,3}|`|~~)?"
_LABELS = (
    "scene|shot|clip|segment|section|part|prompt|take|beat|act|panel|step|sequence|keyframe|multi-?shot(?: prompt)?"
    "|szene|\u573a\u666f|\u955c\u5934|\u5206\u955c|\u7247\u6bb5"
)
_NUMBERED = r"\s{0,40}\#?\s{0,40}(?:[0-9]{1,3}[a-zA-Z]?|[a-zA-Z])?(?![A-Za-z0-9])"
_TITLE = r"[^\[\](){}0-9]{0,60}?(?=[\[(])"  # only before a time in brackets
_LABEL = rf"(?:(?:{_LABELS}){_NUMBERED}(?:\s{{0,40}}[:.,;|-]+\s{{0,40}}|\s{{1,40}}|(?=[\[(]))(?P<title>{_TITLE})?)"
_WORD = (
    rf"(?:(?:(?:starts?|starting|begins?|beginning)\s{{1,40}})?(?:at|from|between|ab|von|bei)(?:\s{{1,40}}|:\s{{0,40}})"
    rf"|[@~]\s{{0,40}}|\#(?={TIME})"
    r"|(?:time(?:stamp)?|start(?:[ _]?time)?|t|zeit)\s{0,40}(?:[=:+]|\bis\b)\s{0,40}"
    rf"|(?:{'|'.join(sorted(UNIT_OF_WORD, key=len, reverse=True))})"
    rf"(?:\s{{0,40}}[\#=:]\s{{0,40}}|\s{{1,40}})|\u7b2c\s{{0,40}})"
)
_DASH = (
    r"(?:[-=]*>|-+|~|\.{2,3}|\u2026|(?<=[A-Za-z])/|(?:to|until|till?|through|thru|and|bis|\u5230|\u81f3)(?![A-Za-z])"
    r"|[,;|]?\s{0,40}(?:end|ende|stop)(?:[ _]?time)?\s{0,40}[:=])"
)
_ONE = rf"(?:{TIME}|{NUMBER}(?![A-Za-z0-9_%\u00b0]|[:.][0-9]))"
_START = (
    rf"(?P<lead>{_BULLET}{{0,3}}(?P<mark>{_MARK})(?P<label>{_LABEL})?(?P<inner>{_MARK}))"
    rf"(?P<open>[\[(<{{\"']?)\s{{0,40}}(?:(?:{_LABELS}){_NUMBERED}\s{{0,40}}[:,-]?\s{{0,40}}(?={TIME}|{NUMBER}\s{{0,40}}-))?(?P<word>{_WORD})?(?P<start>{_ONE})"
)
_HEAD = re.compile(
    rf"{_START}(?:(?P<dash>\s{{0,40}}{_DASH}\s{{0,40}})(?P<end>{_ONE})|\s{{0,40}}[,;\t]\s{{0,40}}(?P<column>{TIME})(?=\s{{0,40}}(?:[,;\t|]|$)))?",
    re.IGNORECASE,
)
_SINGLE = re.compile(rf"{_START}(?P<dash>(?!))?(?P<end>(?!))?(?P<column>(?!))?", re.IGNORECASE)
_ENDING = re.compile(r"\s{0,40}(?:[:;,|=)\]>]|$)")
_TITLED = re.compile(
    r"\s{0,40}(?P<mark>\#{1,6}\s{1,40}|\*\*|__)?(?P<title>[^\W\d_][^\[\](){}|]{0,40}?)\s{0,40}"
    rf"(?=[\[(]\s{{0,40}}~?(?:{TIME}|{NUMBER}\s{{0,40}}{_DASH}\s{{0,40}}{TIME}))",
    re.IGNORECASE,
)
_SEPARATOR = re.compile(
    r"\s{0,40}(?::|=+>?|-+>|>|\||;|,|(?<!\s)\.(?=\s|$)|-+(?=\s|$)|(?<=\s)-(?=[^\W\d_])|\u2022|/(?=\s)|(?<!\s)[)\]])\s{0,40}"
)
_TAB = re.compile(r"[ ]*\t\s{0,40}")
_CLOSING = {"[": "]", "{": "}", "(": ")", "<": ">", '"': '"', "'": "'"}
_GLUED = re.compile(r"[-_/+.~#@&*A-Za-z0-9]")
_RELATIVE = re.compile(r"(?:later|after|before|ago|into|in|long|of|left|remaining)\b", re.IGNORECASE)
_TIMECODE = re.compile(r"[0-9]+:[0-9]{2}:[0-9]{2}[:;][0-9]{2}(?![0-9])")
_TOUCHING = re.compile(r"0+s[A-Z0-9]|PT[0-9.]+[HMS]")
_FIRST_PIECE = re.compile(r"[^\s{|\[(<~>=\])-]+")


@dataclass(frozen=True)
class SegmentHead:
    """A time or a range in front of a prompt.

    Attributes:
        line: the whole line. column: of the time, with its bracket, from 1. written: the time as written.
        start, end: start is None for a number without a unit, end is None without a range.
        text_at: index in `line` of the prompt; for an open bracket (`[0s-5s: text]`) of the prompt inside it.
        open: the prompt is inside the bracket. certain: it cannot be the start of a sentence.
        zero: it starts at 0. glued: the prompt follows without a space. separated: a sign is between time and prompt.
        closed: it is in its own bracket. colon: the sign between time and prompt has a colon.
        title: of a labelled scene; not part of the prompt. bare: a number without a unit. ranged: it has two ends.
        worded: a word (`at`) is in front of it. unclosed: emphasis that starts before it and ends with the prompt.
    """

    line: str
    column: int
    written: str
    start: Time | None
    end: Time | None
    text_at: int
    open: bool = False
    certain: bool = False
    zero: bool = False
    glued: bool = False
    separated: bool = False
    closed: bool = False
    colon: bool = False
    title: str = ""
    bare: bool = False
    ranged: bool = False
    worded: bool = False
    unclosed: str = ""

    @property
    def number(self) -> str:
        """The time as written, without the bracket or word in front of it."""
        match = re.search(r"[0-9.].*", self.written)
        return match[0] if match else self.written

    @property
    def text(self) -> str:
        return self.line[self.text_at :]

    @property
    def relative(self) -> bool:
        """Whether the time counts from another moment than the film's start: `5 seconds later`."""
        return not self.certain and not self.separated and _RELATIVE.match(self.text.lstrip()) is not None


def find_head(line: str, number: int) -> SegmentHead | None:
    """Return the head of a line, or None. Raises TimelineError for what looks like a time but is not one."""
    folded = fold(line)
    match = _match(folded.text, len(folded.text) - len(folded.text.lstrip()))
    if match is None or match["label"] and not _labelled(folded.text, match):
        if (titled := _titled(line, folded, number)) is not None:
            return titled
        _refuse_near_times(folded, number)
        return None
    at, opening = match.end(), match["open"]
    closing = re.compile(rf"[:,;.\s]*?{re.escape(_CLOSING[opening])}").match(folded.text, at) if opening else None
    inside = opening == "[" and closing is None
    if opening and not inside and closing is None:
        _refuse_near_times(folded, number)
        return None
    at = closing.end() if closing else at
    at, separated, marks = _skip_separator(folded.text, at, match["mark"] or match["inner"])
    return _build(folded, line, number, match, at, separated, inside, closing is not None, marks)


def _titled(line: str, folded: Folded, number: int) -> SegmentHead | None:
    """Return the head of `Intro (0-5s): text`, or of the heading `# Intro (0-5s)` above its prompt."""
    match = _TITLED.match(folded.text)
    if match is None:
        return None
    start = folded.at[match.end()]
    head = find_head(" " * start + line[start:], number)
    if (
        head is None
        or not head.closed
        or head.bare
        or not (head.separated or (match["mark"] and not head.text.strip(" *_")))
    ):
        return None
    ends = {"text_at": len(line)} if not head.separated else {}
    return replace(head, title=match["title"].strip(" :,-"), **ends)


def _match(text: str, at: int) -> re.Match | None:
    """Match a range or a single time; `0s - 3 pandas` is a time, a dash and a prompt."""
    match = _HEAD.match(text, at)
    if match is None or match["end"] is None:
        return match
    open_ended = re.fullmatch(TIME, match["start"], re.I) and not re.fullmatch(TIME, match["end"], re.I)
    spaced_sign = match["dash"].strip() != match["dash"] and not match["dash"].strip()[0].isalpha()
    if open_ended and spaced_sign and not _ENDING.match(text, match.end()):
        return _SINGLE.match(text, at)
    return match


def _labelled(text: str, match: re.Match) -> bool:
    """Return whether a labelled line has a time: `Scene 1 (0s)` does, `Shot 1: 3 pandas` does not."""
    return bool(re.fullmatch(TIME, match["start"], re.I) or match["open"] or match["end"])


def _skip_separator(text: str, at: int, marks: str) -> tuple[int, bool, str]:
    """Skip closing emphasis and one separating sign, in either order.

    Return the index after them, whether there was a sign, and the emphasis that did not close.
    """
    separated = False
    for _ in range(2):
        if marks and text.startswith(marks, at):
            at += len(marks)
            marks = ""
        sign = None if separated else _SEPARATOR.match(text, at) or _TAB.match(text, at)
        if sign:
            at, separated = sign.end(), True
    return at, separated, marks


def _build(
    folded: Folded,
    line: str,
    number: int,
    match: re.Match,
    at: int,
    separated: bool,
    inside: bool,
    closed: bool,
    marks: str,
) -> SegmentHead:
    written = folded.text[match.start("start") : match.end()].strip()
    place = folded.at[match.start("open")] + 1
    start, end = _times(match, folded, number)
    first = re.fullmatch(TIME, match["start"], re.I)
    counted = re.fullmatch(r"[0-9]+\s+", match["lead"]) is not None  # `1 0s text`, but also `10 30s dancers`
    old = looks_like_time(match["start"]) and match["end"] is None and not match["word"] and not counted
    zero = start.is_zero if start is not None else float(match["start"].replace(",", ".")) == 0
    clock = first is not None and re.search("[:']", match["start"]) is not None
    following = folded.text[at : at + 1]
    touching = at and following and not folded.text[at - 1].isspace() and not separated and not closed
    return SegmentHead(
        line,
        place,
        written,
        start,
        end,
        folded.at[at],
        open=inside,
        certain=separated or closed or old or clock or (zero and start is not None) or bool(match["label"]),
        zero=zero,
        glued=bool(touching and _GLUED.match(following)),
        separated=separated,
        closed=closed,
        colon=separated and ":" in folded.text[match.end() : at],
        title=(match["title"] or "").strip(" :-,.|"),
        bare=start is None,
        ranged=bool(match["end"] or match["column"]),
        worded=bool(match["word"]) and not match["word"].rstrip().endswith(("=", "@", ":")),
        unclosed=marks,
    )


def _times(match: re.Match, folded: Folded, number: int) -> tuple[Time | None, Time | None]:
    """Return start and end. A number without a unit takes that of the other end, or of the word before it."""
    start, end = match["start"], match["end"] or match["column"]
    where = "end" if match["end"] else "column"
    united, end_united = (bool(token and re.fullmatch(TIME, token, re.I)) for token in (start, end))
    word = UNIT_OF_WORD.get((match["word"] or "").strip(" #=:").lower())
    if match["word"] and match["word"].startswith("\u7b2c"):
        word = "s" if end_united else None
    unit = word
    if unit is None and not united and end_united:
        unit = unit_of(end) or ("s" if float(start.replace(",", ".")) == 0 else None)
    if unit is None and united and end and not end_united:
        unit = unit_of(start)
    first = _one(start, united, unit, folded.at[match.start("start")] + 1, number)
    if end is None:
        return first, None
    last_at = folded.at[match.start(where)] + 1
    last = _one(end, end_united, unit, last_at, number)
    if (first is None) != (last is None):
        bare, column = (start, folded.at[match.start("start")] + 1) if first is None else (end, last_at)
        raise TimelineError(f"'{bare}' is not a time, because it has no unit; write {bare}s", number, column)
    if first is not None and last.compare(first) in (-1, 0):
        raise TimelineError(f"the range ends at {last}, but starts at {first}", number, last_at)
    return first, last


def _one(token: str, united: bool, unit: str | None, column: int, number: int) -> Time | None:
    if united:
        return parse_time(token, number, column)
    if unit is None:
        return None
    time = with_unit(token, unit)
    return parse_time(f"{token}{unit}", number, column) if time is None else time


def _refuse_near_times(folded: Folded, number: int) -> None:
    """Raise TimelineError for a first word that looks like a time but is not one: `-5s`, `0:5`, `1.5c`."""
    start = len(folded.text) - len(folded.text.lstrip())
    word = re.compile(r"[^\s{|]*").match(folded.text, start)
    if looks_like_time(word[0]):
        parse_time(word[0], number, folded.at[start] + 1)
    if _TIMECODE.match(word[0]):
        parse_time(_TIMECODE.match(word[0])[0], number, folded.at[start] + 1)
    if _TOUCHING.match(word[0]):
        raise TimelineError(
            f"'{word[0][:20]}' is not a time; put a space between time and prompt: '0s text'",
            number,
            folded.at[start] + 1,
        )
    core = re.compile(rf"\s*{_BULLET}{{0,3}}[\[(<]?\s*").match(folded.text).end()
    piece = _FIRST_PIECE.match(folded.text, core)
    if piece and (piece[0][0] == "0" or folded.text[core - 1 : core] in "[(<") and looks_like_time(piece[0]):
        parse_time(piece[0], number, folded.at[core] + 1)


def check_glued(head: SegmentHead, number: int) -> None:
    """Raise TimelineError if the prompt follows its time without a space."""
    if head.glued:
        raise TimelineError(
            f"there is no space between '{head.written}' and its prompt; write '{head.written} text'",
            number,
            head.column,
        )


def check_relative(head: SegmentHead, number: int) -> None:
    """Raise TimelineError if the time counts from another moment than the film's start."""
    if head.relative:
        raise TimelineError(
            f"'{head.written} {head.text.split()[0]}' counts from another moment; times count from the film's start, "
            f"as in '12s text' (if this belongs to the prompt, write a time before it: '12s {head.written} ...')",
            number,
            head.column,
        )
