"""`python -m longlive_core takes verify`: compare a folder of takes with its checksums."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..words.wording import count, shorten_list

if TYPE_CHECKING:
    from ..takes import TakeStore
    from ..takes.verify import StoredFile, VerifyReport

DAMAGED = 1  # exit code


def add_verify(action: argparse.ArgumentParser) -> None:
    action.add_argument("take", metavar="ID", nargs="?", help="verify only this take; by default all")
    action.add_argument(
        "--repair",
        action="store_true",
        help="set damaged files aside, so that the next render of "
        "their take renders them again, and add checksums to files of earlier versions",
    )


def verify_store(store: TakeStore, take: str | None, repair: bool) -> int:
    """Verify and print the result; return the exit code."""
    from ..takes.verify import verify

    found = verify(store, take, repair, _progress)
    for file, damage in found.damaged:
        aside = ", set aside" if damage.aside else ", which could not be set aside" if repair else ""
        print(f"damaged: {_users(file)}: {damage.reason} ('{damage.path}'{aside})")
    for error in found.unreadable:
        print(f"unreadable: {error}")
    for id, chunks in found.missing.items():
        print(f"unfinished: take {id}: {count(len(chunks), 'chunk')} missing; rendering it again completes it")
    print(_summary(found, repair))
    return 0 if found.whole else DAMAGED


def _progress(files: Sequence[StoredFile]) -> Iterator[StoredFile]:
    from tqdm import tqdm

    return iter(tqdm(files, unit="file", file=sys.stderr))


def _users(file: StoredFile) -> str:
    what = "video" if file.video else "latents"
    chunks: dict[str, list[int]] = {}
    for take, chunk in file.users:
        chunks.setdefault(take, []).append(chunk)
    return f"{what} of " + ", ".join(f"chunk {shorten_list(each)} of take {take}" for take, each in chunks.items())


def _summary(found: VerifyReport, repair: bool) -> str:
    lines = [
        f"{count(found.takes, 'take')}, {count(found.files, 'file')}",
        f"{len(found.damaged)} damaged" if found.damaged else "none damaged",
    ]
    if found.unreadable:
        lines.append(f"{count(len(found.unreadable), 'take')} unreadable")
    if found.without_checksum:
        lines.append(
            f"{found.without_checksum} of earlier versions "
            + ("now have checksums" if repair else "without a checksum (--repair adds one)")
        )
    if found.damaged and not repair:
        lines.append("--repair sets damaged files aside")
    if found.damaged:
        lines.append("rendering the take again restores them")
    return "; ".join(lines)
