"""Hints for prompt text that looks like another tool's syntax, or like a document around prompts; all is text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..words.wording import truncate
from .folding import fold, named_inside
from .syntax import TRANSITIONS, Segment
from .times import NUMBER, TIME

_SWITCHES = (
    "ar|aspect|s|stylize|v|version|niji|no|neg|negative|seed|chaos|c|q|quality|iw|sref|cref|style|tile|w|h|width|height|steps"
    "|cfg|fps|camerafixed|cf|duration|dur|motion|gs|ratio|rs|resolution|wm|length|frames|raw|hd|loop|prompt"
)
_LABELS = (
    "scene|shot|clip|segment|section|part|prompt|take|act|panel|step|sequence|keyframe|caption|title"
    "|multi-?shot prompt|master prompt|positive(?: prompt)?|visuals?|description|szene|\u573a\u666f|\u955c\u5934"
)
_WEIGHT = "is no weight"
_PART = "is part of the prompt"
_CAPITALS = r"(?<![\w'\"])(?<![A-Z] )(?:BREAK|AND|ADDROW|ADDCOL|ADDCOMM|ADDBASE)(?![\w'\"])(?! ?[A-Z]{2})"

# Pattern, what it is not, and what to do. Sentences that people write must not match; a test has a list of them.
_KINDS: tuple[tuple[re.Pattern, str], ...] = tuple(
    (re.compile(pattern, flags), says)
    for pattern, flags, says in (
        (
            r"<\s*(?:lora|lyco|lycoris|hypernet|wlora)\w*\s*[:=][^<>]*>",
            re.I,
            "loads no LoRA; put a LoRA loader before the sampler (on the command line --lora), and remove it here",
        ),
        (
            rf"[\[(](?:duration|length|dur|time)?\s*[:=]?\s*~?{TIME}(?:\s*-\s*{TIME})?\s*[\])]"
            rf"|\b(?:duration|length)\s*[:=]\s*\d+(?:\.\d+)?\s*s?\b"
            rf"|(?:(?<=[.!?;,/|\}}]\s)|(?<=[.!?;/|\}}])){TIME}(?=\s*[:>|-]\s|\s+(?-i:(?!AM\b|PM\b)[A-Z]))"
            rf"|(?:{NUMBER}|{TIME})\s*-\s*{TIME}\s*[:|]"
            rf"|(?<=\s)(?![2-9]0s|[12][0-9]{{2}}0s)[0-9.]+s(?=\s*:|\s+(?-i:[A-Z]))|[@:]\s*{TIME}\s*$"
            rf"|^(?:(?:the )?(?:first|next|last)|for|then|after)\s+{TIME}\s*[:,]",
            re.I,
            "is read as text; a time stands in front of its prompt, on a line of its own",
        ),
        (
            rf"^[\[(<]\s*(?:{'|'.join(TRANSITIONS)})\s*[\])>]|^(?:{'|'.join(TRANSITIONS)})\s*:"
            rf"|\"(?:{'|'.join(TRANSITIONS)})\"$",
            re.I,
            "is read as text; an option is in braces at the end, as {cut}",
        ),
        (
            r"\([^()]*[^()\s\d]\s?:(?:[0-2](?:\.\d+)?|\s?\d?\.\d+)\)",
            0,
            f"{_WEIGHT}; prompts have none, so describe it instead",
        ),
        (
            r"\(\([^()]+\)\)+|\)\s?\d\.\d+(?!\d*\s?\w)|[a-z]{3,}\+{2,}(?!\w)|\w-{2,}(?=\s*[,)])",
            0,
            f"{_WEIGHT}; prompts have none",
        ),
        (
            r"\[[^\[\]]*:[^\[\]]*:\s*[\d.]+\]|\[[^\[\]:|]+:\s*\d*\.?\d+\]|\[[^\[\]]+\|[^\[\]]+\]",
            0,
            "changes nothing over time; write each prompt with its time, as '5s text', or {blend=2s} at its end",
        ),
        (r"\{[^{}]*\|[^{}]*\}", 0, "makes no choice; write the one that is meant"),
        (
            r"\[+[^\[\]]+\]+",
            0,
            "is read with its brackets; they are no weight and no option (options are in {braces} at the end)",
        ),
        (r"\bembedding:\s?\S+", re.I, "loads no embedding; describe what it stands for"),
        (_CAPITALS, 0, "divides nothing; write one sentence, or a segment with a time of its own"),
        (r"(?<!\w)__[\w/*.-]+?__(?!\w)", 0, "is no wildcard; write the word that is meant"),
        (
            rf"(?:^|(?<=\s))--(?:{_SWITCHES})(?![\w-])(?:[ =][\w.:]+)?",
            0,
            "sets nothing; size, seed and steps are set in the sampler or by options of the command",
        ),
        (
            r"\bneg(?:ative)?[ _]prompts?\s*[:=]|^negatives?\s*:",
            re.I,
            "is read as what the film shows; there is no negative prompt, so say what is to be seen and "
            "remove the rest",
        ),
        (
            r"\bSteps:\s*\d+\s*,|\bCFG scale:\s*[\d.]+|\bSampler:\s*\w+|\bModel hash:\s*\w+"
            r"|\b(?:cfg|steps)\s*=\s*\d[\d.]*|\bSeed:\s*\d+|\bSize:\s*\d+x\d+",
            re.I,
            "sets nothing and is read as prompt; remove the settings that another program wrote",
        ),
        (
            r"^(?:\(?\d{1,3}[.)]|\#\d{1,3}\b[.:)]?|\d{1,3}\s*[:\u2022]|\d{1,3}\s+[-|])\s*(?=\D)",
            0,
            f"{_PART}; remove the list's numbers (if they are times, write 0s, 5s)",
        ),
        (
            r"^\#{1,6}\s+\S.*|^(?:\*\*|__).+?(?:\*\*|__)",
            0,
            f"{_PART}, and a line alone is a prompt of its own; remove headings",
        ),
        (
            rf"^(?:{_LABELS})\s*(?:\#?\s*\d{{1,3}}[a-z]?)?\s*(?::|-(?=\s)|$)",
            re.I,
            f"{_PART}, and a line alone is a prompt of its own; remove it (with a time it may stay: 'Scene 1 (0s): a')",
        ),
        (r"^[-+>\u2022](?=\s)", 0, f"{_PART}; remove the list's signs"),
        (r"^(?://|/\*|<!--|;)|\s//(?=\s).*|\*/|-->", 0, "is no comment; there are none, so remove it"),
        (
            r"</?(?:i|b|u|br|p|c|v|em|strong|font|span|div)\b[^<>]*>|\{\\\w+|&(?:nbsp|amp|lt|gt|quot|\#\d+);",
            re.I,
            f"{_PART}; remove the markup",
        ),
        (r"\\[nt](?![a-z])|\\n(?=\d+s?\b)", 0, "is written out and no new line; put each segment on its own line"),
        (r"^\".*\"$|^'.*'$", 0, "is read with its quotes; remove them"),
        (r"\bCUT TO\b:?", 0, "is read as text; a new shot is a segment with {cut} at its end"),
        (
            rf"(?<=[.!?,;-])\s+(?:{'|'.join(TRANSITIONS)})\.?$",
            re.I,
            "is read as text; an option is in braces at the end, as {cut}",
        ),
    )
)
_OPTION_INSIDE = re.compile(rf"\{{\s*(?:(?:{'|'.join(TRANSITIONS)})\s*|(?:seed|blend)\s*=[^{{}}]*)\}}", re.IGNORECASE)
# A prompt's tokens end before; and a search that tries every place must not take long.
_LOOKED_AT = 3000
_SPACES = re.compile(r"\s+")
_QUOTES = str.maketrans(
    dict.fromkeys("\u300c\u300d\u300e\u300f\u3010\u3011\u3014\u3015", " ")
)  # not brackets, as times have
_WHOLE_LINE_BAR = "\uff5c\u2502\u00a6"


def text_hints(segments: Sequence[Segment], notation: str, anchor: str | None = None) -> list[str]:
    """What looks like syntax and is read as text."""
    bars = [
        f"line {segment.line}: '|' is read as text; it splits prompts only in lines without times"
        for segment in segments
        if notation == "lines" and "|" in segment.text
    ]
    options = [hint for segment in segments for hint in _option_hints(segment)]
    return bars + options + _foreign_hints(segments, anchor)


def _foreign_hints(segments: Sequence[Segment], anchor: str | None) -> list[str]:
    """One hint for each kind of syntax: its first place and how many more there are."""
    texts = [(f"line {segment.line}", segment.text) for segment in segments]
    if anchor is not None:
        texts.insert(0, ("the anchor", anchor))
    folded = [(where, _SPACES.sub(" ", fold(text[:_LOOKED_AT].translate(_QUOTES)).text)) for where, text in texts]
    hints, seen = [], [[] for _ in folded]
    for pattern, says in _KINDS:
        found = []
        for (where, text), spans in zip(folded, seen, strict=True):
            if match := _new_match(pattern, text, spans):
                found.append((where, match[0].strip()))
                spans.append(match.span())
        if found:
            hints.append(f"{found[0][0]}{_more(len(found))}: '{truncate(found[0][1], 30)}' {says}")
    return hints + _odd_characters(texts)


def _option_hints(segment: Segment) -> list[str]:
    """A hint for every option in braces that stands inside the text and is therefore text."""
    return [
        f"line {segment.line}: {truncate(option, 40)} stands inside the prompt and is read as text; options go to the "
        "end"
        for option in _OPTION_INSIDE.findall(fold(segment.text).text)
    ]


def _new_match(pattern: re.Pattern, text: str, spans: list[tuple[int, int]]) -> re.Match | None:
    """The first match that no other kind has named."""
    for match in pattern.finditer(text):
        if match[0].strip() and not any(start < match.end() and match.start() < end for start, end in spans):
            return match
    return None


def _odd_characters(texts: list[tuple[str, str]]) -> list[str]:
    hints = []
    found = [(where, names) for where, text in texts if (names := named_inside(text))]
    if found:
        hints.append(
            f"{found[0][0]}{_more(len(found))}: an invisible character ({', '.join(found[0][1])}) is part of the "
            "prompt; "
            "type the place anew to be rid of it"
        )
    bars = [where for where, text in texts if any(bar in text for bar in _WHOLE_LINE_BAR)]
    if bars:
        hints.append(f"{bars[0]}{_more(len(bars))}: this bar is read as text; prompts are split by '|'")
    return hints


def _more(number: int) -> str:
    return "" if number == 1 else f" (and {number - 1} more)"
