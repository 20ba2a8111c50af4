"""Timelines inside other documents: code fences, SRT and VTT subtitles, tables, CSV headers.

Each step blanks what is not part of a prompt and leaves every other character in its place, so that errors still name
the line and column of the text as written.
"""

from __future__ import annotations

import re

from ..folding import fold
from ..syntax import TimelineError
from ..times import TIME
from .heads import find_head

_FENCE = re.compile(r"\s*(?:```+|~~~+)\s*[\w+-]*\s*")
_CUE = re.compile(rf"\s*{TIME}\s*-+>\s*{TIME}", re.IGNORECASE)
_SETTING = r"\s+(?:align|position|line|size|region|vertical|[XY][12]):\S+"
_CUE_SETTINGS = re.compile(rf"(?:{_SETTING})+\s*$", re.IGNORECASE)
_CUE_LINE = re.compile(rf"{_CUE.pattern}(?:{_SETTING})*\s*", re.IGNORECASE)  # nothing but times
_RULE = re.compile(r"\s*\|?\s*:?-{2,}:?\s*(?:\|\s*:?-{2,}:?\s*)*\|?\s*")
_COLUMN = re.compile(
    r"(?:\#|no\.?|nr\.?|id|scene|shot|clip|segment|time(?:stamp|code)?s?|start(?:[ _]?time)?|end(?:[ _]?time)?|from|to"
    r"|in|out|seconds?|sec|frames?|begin|range|when|at|prompts?|text|caption|description|visuals?|action)"
    r"(?:\s*\([^()]*\))?",
    re.IGNORECASE,
)
_SUBTITLES = re.compile(r"\s*(?:\[script info\]|dialogue\s*:.*,|<\?xml|<tt\b|<transcript)", re.IGNORECASE)


_YAML = re.compile(
    r"\s*(?:(?:prompts|prompt_map|prompt_schedule|shots|scenes|segments|timeline|schedule|clips|keyframes)\s*:"
    r"|-\s+(?:prompt|text|caption|time|start|end|duration|frame)\s*:.*)\s*",
    re.IGNORECASE,
)


def strip_document(lines: list[str]) -> list[str]:
    """Return the lines with everything blanked that belongs to the document and not to the timeline in it."""
    lines = list(lines)
    for step in (_fences, _rulers, _refuse_subtitles, _refuse_yaml, _web_subtitles, _cue_names, _table, _header):
        step(lines)
    return lines


def _content(lines: list[str]) -> list[int]:
    return [index for index, line in enumerate(lines) if fold(line).text.strip()]


def _fences(lines: list[str]) -> None:
    """Blank the first and last line of a code block, as chat programs write one."""
    content = _content(lines)
    if len(content) > 2 and all(_FENCE.fullmatch(fold(lines[index]).text) for index in (content[0], content[-1])):
        lines[content[0]] = lines[content[-1]] = ""


def _rulers(lines: list[str]) -> None:
    """Blank separator lines: `---`, `=====`."""
    for index in _content(lines):
        if re.fullmatch(r"\s*(?:-{3,}|={3,}|_{3,}|\*{3,}|~{3,}|\#{3,})\s*", fold(lines[index]).text):
            lines[index] = ""


def _refuse_subtitles(lines: list[str]) -> None:
    for index, line in enumerate(lines):
        if _SUBTITLES.match(fold(line).text):
            raise TimelineError(
                "this kind of subtitle file is not supported; save it as SRT or VTT, or write '0s text'",
                index + 1,
                1,
            )


def _refuse_yaml(lines: list[str]) -> None:
    content = _content(lines)
    if content and _YAML.fullmatch(fold(lines[content[0]]).text):
        raise TimelineError(
            "this looks like YAML, which is not supported; write each prompt on a line with its time, '0s text', or "
            "write JSON",
            content[0] + 1,
            1,
        )


def _web_subtitles(lines: list[str]) -> None:
    """Blank WebVTT's header, notes and styles, each up to an empty line, and the settings after a cue's times."""
    content = _content(lines)
    if not content or not fold(lines[content[0]]).text.lstrip().startswith("WEBVTT"):
        return
    inside = False
    for index, line in enumerate(lines):
        folded = fold(line).text.strip()
        inside = bool(folded) and (inside or re.match(r"(?:WEBVTT|NOTE|STYLE|REGION)\b", folded) is not None)
        if inside and _CUE.match(folded):
            inside = False
        if inside:
            lines[index] = ""
        elif _CUE.match(folded):
            lines[index] = _CUE_SETTINGS.sub("", line)


def _cue_names(lines: list[str]) -> None:
    """Blank the number (SRT) or name (WebVTT) of a cue: a line after an empty one and before the cue's times."""
    for index in range(len(lines) - 1):
        follows = _CUE_LINE.fullmatch(fold(lines[index + 1]).text)
        name = fold(lines[index]).text.strip()
        if follows and (name.isdigit() or index == 0 or not fold(lines[index - 1]).text.strip()):
            lines[index] = ""


def _table(lines: list[str]) -> None:
    """Blank the bars around rows `| 0s | text |`, numbers in front, the header and the rule below it."""
    rows = [index for index, line in enumerate(lines) if fold(line).text.lstrip().startswith("|")]
    timed = [index for index in rows if _row(lines[index], index + 1) is not None]
    if not timed:
        return
    for index in _content(lines):
        if index in timed:
            lines[index] = _row(lines[index], index + 1)
        elif index < timed[0] and index in rows or _RULE.fullmatch(fold(lines[index]).text):
            lines[index] = ""


def _row(line: str, number: int) -> str | None:
    """Return the row as a line `0s | text`, every character in its place, or None if no cell is a time."""
    folded = fold(line)
    bars = [match.start() for match in re.finditer(r"(?<!\\)\|", folded.text)]
    ends = [*bars[1:], len(folded.text)]
    cells = [(bar, end) for bar, end in zip(bars, ends, strict=True) if folded.text[bar + 1 : end].strip()]
    chars = list(line)
    times = 0
    for bar, end in cells:
        written = line[folded.at[bar] + 1 : folded.at[end]]
        if times and not _is_time(written, number):
            break
        if _is_time(written, number):
            chars[folded.at[bar]] = "-" if times else " "
            times += 1
        else:  # a number, or the name of a scene
            for index in range(folded.at[bar], folded.at[end]):
                chars[index] = " "
    remaining = [cell for cell in cells if cell[0] >= bar]
    if not times or not cells:
        return None
    if len(remaining) != 1 or remaining[0][0] == cells[times - 1][0] and times == len(cells):
        raise TimelineError("a table row has a time and a prompt, '| 0s | text |'; remove the other columns", number, 1)
    if bars[-1] != remaining[0][0] and not folded.text[bars[-1] + 1 :].strip():
        chars[folded.at[bars[-1]]] = " "
    return "".join(chars)


def _is_time(cell: str, number: int) -> bool:
    head = find_head(cell, number)
    return head is not None and not head.bare and not head.text.strip() and not head.open


def _header(lines: list[str]) -> None:
    """Blank the first line of a CSV file, `time,prompt`, if the next line starts with a time."""
    content = _content(lines)
    if len(content) < 2:
        return
    cells = re.split(r"[,;|\t]", fold(lines[content[0]]).text.strip())
    names = [_COLUMN.fullmatch(cell.strip().strip('"')) for cell in cells]
    if len(cells) > 1 and all(names) and find_head(lines[content[1]], content[1] + 1) is not None:
        lines[content[0]] = ""
