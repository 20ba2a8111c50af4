"""The source of `render`'s timeline: a file, standard input, the argument itself, or a film to render again."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..timeline import Plan, Script, parse
from ..words.wording import count, shorten

if TYPE_CHECKING:
    from ..film.tags import FilmRecord

_FILM_FILE = re.compile(r"\.(?:mp4|m4v|mov)$", re.IGNORECASE)
_TEXT_FILE = re.compile(
    r"\.(?:txt|text|json|jsonl|md|yaml|yml|csv|tsv|srt|vtt|timeline|prompt|mp4|m4v|mov)$", re.IGNORECASE
)
_PATH_START = re.compile(r"(?:/|\\|~|\.{1,2}[/\\]|[A-Za-z]:[/\\])")
_ONE_WORD_PATH = re.compile(r"\S*(?:[/\\]\S*|\.[A-Za-z][A-Za-z0-9]{0,7})")


@dataclass(frozen=True)
class Source:
    """A timeline, and the record of the film that it comes from, if any."""

    text: str
    script: Script
    film: FilmRecord | None = None

    @property
    def seed(self) -> int:
        """The seed to use if the user gives none."""
        return 0 if self.film is None else self.film.seed

    def plan(self, duration: float | None, chunk: int | None) -> Plan:
        """Return the plan for a duration in seconds, in chunks of `chunk` latent frames; None: the user gave none."""
        film = self.film
        if film is None:
            return self.script.plan(duration, chunk=chunk or 3)
        from ..film.tags import duration_again, plan_again

        if duration is None and chunk in (None, film.stream.chunk):
            return plan_again(self.script, film)
        seconds = duration_again(self.script, film) if duration is None else duration
        return self.script.plan(seconds, film.fps, chunk or film.stream.chunk)

    def note_model(self, model: str) -> None:
        """Print a note if the film was rendered with a model of another name than `model`."""
        if self.film is not None and self.film.model != model:
            made = shorten(self.film.model, 80)
            print(
                f"note: the film was made with the model '{made}', it is rendered again with '{model}' (--model)",
                file=sys.stderr,
            )


def read_source(argument: str, continues: bool = False) -> Source:
    """Read what to render. continues: after a take. ValueError if the argument, or its file, is not a timeline."""
    if _FILM_FILE.search(argument) and os.path.isfile(argument):
        from ..film.read_tags import read_film

        film = read_film(argument)
        if film.given:
            raise ValueError(
                f"'{argument}' begins with {count(film.given, 'given chunk')} (of a picture, a clip or "
                "another take), which its file does not hold: render its timeline with --start or "
                "--extend"
            )
        return Source(film.timeline, parse(film.timeline), film)
    text = read_timeline(argument)
    return Source(text, parse(text, continues))


def read_timeline(argument: str) -> str:
    """Return the timeline's text from a file, standard input (`-`) or the argument itself.

    Raises ValueError for a text that looks like a path but is not a file: 'panda.txt' is hardly meant as a prompt.
    """
    if argument == "-":
        return _decode(sys.stdin.buffer.read(), "standard input")
    if os.path.isfile(argument):  # also False for texts that cannot be paths: too long, or with a null character
        return _decode(Path(argument).read_bytes(), f"'{argument}'")
    one_line = argument.strip()
    if "\n" in one_line or one_line.startswith(("{", "[", "*")):
        return argument
    if os.path.isdir(argument):
        raise ValueError(f"'{argument}' is a folder; give a file with the timeline")
    if _TEXT_FILE.search(one_line) or _PATH_START.match(one_line) or _ONE_WORD_PATH.fullmatch(one_line):
        raise ValueError(f"there is no file '{argument}' (a timeline as text starts with a time: '0s A panda ...')")
    return argument


def _decode(data: bytes, where: str) -> str:
    # PowerShell's '>' writes UTF-16 with a mark in front.
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
