"""Hints about prompts that contain what looks like syntax: our options, another tool's, or parts of a document.

Nothing in here changes a prompt: all of it is read as text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..config import TRANSITIONS
from ..words.wording import truncate
from .folding import fold, invisible_inside
from .options import VALUED
from .syntax import Segment
from .times import NUMBER, TIME

_SWITCHES = (
    "ar|aspect|s|stylize|v|version|niji|no|neg|negative|seed|chaos|c|q|quality|iw|sref|cref|style|tile|w|h|width|height|steps"
    "|cfg|fps|camerafixed|cf|duration|dur|motion|gs|ratio|rs|resolution|wm|length|frames|raw|hd|loop|prompt"
)
_LABELS = (
    "scene|shot|clip|segment|section|part|prompt|take|act|panel|step|sequence|keyframe|caption|title"
    "|multi-?shot prompt|master prompt|positive(?: prompt)?|visuals?|description|szene|\u573a\u666f|\u955c\u5934"
)
_WEIGHT = "is not a weight"
_PART = "is part of the prompt"
_CAPITALS = r"(?<![\w'\"])(?<![A-Z] )(?:BREAK|AND|ADDROW|ADDCOL|ADDCOMM|ADDBASE)(?![\w'\"])(?! ?[A-Z]{2})"

# Pattern, what it does not do, what to write instead. Ordinary sentences must not match; a test has a list of them.
_KINDS: tuple[tuple[re.Pattern, str], ...] = tuple(
    (re.compile(pattern, flags), advice)
    for pattern, flags, advice in (
        (
            r"<\s*(?:lora|lyco|lycoris|hypernet|wlora)\w*\s*[:=][^<>]*>",
            re.I,
            "does not load a LoRA; remove it, and put a LoRA loader before the sampler (--lora on the command line)",
        ),
        (
            rf"[\[(](?:duration|length|dur|time)?\s*[:=]?\s*~?{TIME}(?:\s*-\s*{TIME})?\s*[\])]"
            rf"|\b(?:duration|length)\s*[:=]\s*\d+(?:\.\d+)?\s*s?\b"
            rf"|(?:(?<=[.!?;,/|\}}]\s)|(?<=[.!?;/|\}}])){TIME}(?=\s*[:>|-]\s|\s+(?-i:(?!AM\b|PM\b)[A-Z]))"
            rf"|(?:{NUMBER}|{TIME})\s*-\s*{TIME}\s*[:|]"
            rf"|(?<=\s)(?![2-9]0s|[12][0-9]{{2}}0s)[0-9.]+s(?=\s*:|\s+(?-i:[A-Z]))|[@:]\s*{TIME}\s*$"
            rf"|^(?:(?:the )?(?:first|next|last)|for|then|after)\s+{TIME}\s*[:,]",
            re.I,
            "is read as text; write a time in front of its prompt, at the start of a line",
        ),
        (
            rf"^[\[(<]\s*(?:{'|'.join(TRANSITIONS)})\s*[\])>]|^(?:{'|'.join(TRANSITIONS)})\s*:"
            rf"|\"(?:{'|'.join(TRANSITIONS)})\"$",
            re.I,
            "is read as text; an option is in braces at the end, as in {cut}",
        ),
        (
            r"\([^()]*[^()\s\d]\s?:(?:[0-2](?:\.\d+)?|\s?\d?\.\d+)\)",
            0,
            f"{_WEIGHT}; prompts have no weights, so describe it instead",
        ),
        (
            r"\(\([^()]+\)\)+|\)\s?\d\.\d+(?!\d*\s?\w)|[a-z]{3,}\+{2,}(?!\w)|\w-{2,}(?=\s*[,)])",
            0,
            f"{_WEIGHT}; prompts have no weights",
        ),
        (
            r"\[[^\[\]]*:[^\[\]]*:\s*[\d.]+\]|\[[^\[\]:|]+:\s*\d*\.?\d+\]|\[[^\[\]]+\|[^\[\]]+\]",
            0,
            "changes nothing over time; write each prompt with its time, as '5s text', or {blend=2s} at its end",
        ),
        (r"\{[^{}]*\|[^{}]*\}", 0, "is not a choice; write the one you mean"),
        (
            r"\[+[^\[\]]+\]+",
            0,
            "is read with its brackets; they are not a weight or an option (options are in {braces} at the end)",
        ),
        (r"\bembedding:\s?\S+", re.I, "does not load an embedding; describe what it stands for"),
        (_CAPITALS, 0, "does not separate anything; write one sentence, or a segment with its own time"),
        (r"(?<!\w)__[\w/*.-]+?__(?!\w)", 0, "is not a wildcard; write the word you mean"),
        (
            rf"(?:^|(?<=\s))--(?:{_SWITCHES})(?![\w-])(?:[ =][\w.:]+)?",
            0,
            f"{_PART}; remove it, and set size, seed and steps in the sampler or with options of the command",
        ),
        (
            r"\bneg(?:ative)?[ _]prompts?\s*[:=]|^negatives?\s*:",
            re.I,
            "is read as what the film shows; there is no negative prompt, so write what should be seen and "
            "remove the rest",
        ),
        (
            r"\bSteps:\s*\d+\s*,|\bCFG scale:\s*[\d.]+|\bSampler:\s*\w+|\bModel hash:\s*\w+"
            r"|\b(?:cfg|steps)\s*=\s*\d[\d.]*|\bSeed:\s*\d+|\bSize:\s*\d+x\d+",
            re.I,
            f"{_PART}; remove the settings that another program wrote",
        ),
        (
            r"^(?:\(?\d{1,3}[.)]|\#\d{1,3}\b[.:)]?|\d{1,3}\s*[:\u2022]|\d{1,3}\s+[-|])\s*(?=\D)",
            0,
            f"{_PART}; remove the list's numbers (if they are times, write 0s, 5s)",
        ),
        (
            r"^\#{1,6}\s+\S.*|^(?:\*\*|__).+?(?:\*\*|__)",
            0,
            f"{_PART}, and alone on a line it is a prompt of its own; remove headings",
        ),
        (
            rf"^(?:{_LABELS})\s*(?:\#?\s*\d{{1,3}}[a-z]?)?\s*(?::|-(?=\s)|$)",
            re.I,
            f"{_PART}, and alone on a line it is a prompt of its own; remove it (it may stay with a time: 'Scene 1 "
            "(0s): a')",
        ),
        (r"^[-+>\u2022](?=\s)", 0, f"{_PART}; remove the list's bullets"),
        (r"^(?://|/\*|<!--|;)|\s//(?=\s).*|\*/|-->", 0, "is not a comment; timelines have no comments, so remove it"),
        (
            r"</?(?:i|b|u|br|p|c|v|em|strong|font|span|div)\b[^<>]*>|\{\\\w+|&(?:nbsp|amp|lt|gt|quot|\#\d+);",
            re.I,
            f"{_PART}; remove the markup",
        ),
        (
            r"\\[nt](?![a-z])|\\n(?=\d+s?\b)",
            0,
            "is not a line break, but two characters; put each segment on its own line",
        ),
        (r"^\".*\"$|^'.*'$", 0, "is read with its quotes; remove them"),
        (r"\bCUT TO\b:?", 0, "is read as text; for a new shot, write {cut} at the end of its segment"),
        (
            rf"(?<=[.!?,;-])\s+(?:{'|'.join(TRANSITIONS)})\.?$",
            re.I,
            "is read as text; an option is in braces at the end, as in {cut}",
        ),
    )
)
_OPTION_INSIDE = re.compile(
    rf"\{{\s*(?:(?:{'|'.join(TRANSITIONS)})\s*|(?:{'|'.join(VALUED)})\s*=[^{{}}]*)\}}", re.IGNORECASE
)
# Characters of a prompt that are searched. A prompt's tokens end earlier, and the search at every place stays short.
_SEARCHED = 3000
_SPACES = re.compile(r"\s+")
_QUOTES = str.maketrans(
    dict.fromkeys("\u300c\u300d\u300e\u300f\u3010\u3011\u3014\u3015", " ")
)  # they are not brackets of a time
_OTHER_BARS = "\uff5c\u2502\u00a6"


def text_hints(segments: Sequence[Segment], notation: str, anchor: str | None = None) -> list[str]:
    """Return hints about what looks like syntax but is read as text."""
    bars = [
        f"line {segment.line}: '|' is read as text; it separates prompts only in lines without times"
        for segment in segments
        if notation == "lines" and "|" in segment.text
    ]
    options = [hint for segment in segments for hint in _option_hints(segment)]
    return bars + options + _foreign_hints(segments, anchor)


def _foreign_hints(segments: Sequence[Segment], anchor: str | None) -> list[str]:
    """Return one hint for each kind of syntax: its first place and how many more there are."""
    texts = [(f"line {segment.line}", segment.text) for segment in segments]
    if anchor is not None:
        texts.insert(0, ("the anchor", anchor))
    folded = [(where, _SPACES.sub(" ", fold(text[:_SEARCHED].translate(_QUOTES)).text)) for where, text in texts]
    hints, seen = [], [[] for _ in folded]
    for pattern, advice in _KINDS:
        matches = []
        for (where, text), spans in zip(folded, seen, strict=True):
            if match := _new_match(pattern, text, spans):
                matches.append((where, match[0].strip()))
                spans.append(match.span())
        if matches:
            where, written = matches[0]
            hints.append(f"{where}{_more(len(matches))}: '{truncate(written, 30)}' {advice}")
    return hints + _odd_characters(texts)


def _option_hints(segment: Segment) -> list[str]:
    """Return a hint for every option in braces inside the text, where it is not an option."""
    return [
        f"line {segment.line}: {truncate(option, 40)} is inside the prompt and is read as text; write options at its "
        "end"
        for option in _OPTION_INSIDE.findall(fold(segment.text).text)
    ]


def _new_match(pattern: re.Pattern, text: str, spans: list[tuple[int, int]]) -> re.Match | None:
    """Return the first match that does not overlap one of another kind."""
    for match in pattern.finditer(text):
        if match[0].strip() and not any(start < match.end() and match.start() < end for start, end in spans):
            return match
    return None


def _odd_characters(texts: list[tuple[str, str]]) -> list[str]:
    hints = []
    invisible = [(where, names) for where, text in texts if (names := invisible_inside(text))]
    if invisible:
        where, names = invisible[0]
        hints.append(
            f"{where}{_more(len(invisible))}: an invisible character ({', '.join(names)}) is part of the "
            "prompt; retype that part to remove it"
        )
    bars = [where for where, text in texts if any(bar in text for bar in _OTHER_BARS)]
    if bars:
        hints.append(f"{bars[0]}{_more(len(bars))}: this bar is read as text; prompts are separated by '|'")
    return hints


def _more(number: int) -> str:
    return "" if number == 1 else f" (and {number - 1} more)"
