"""Invalid manifests, for tests: every field with wrong values, and files that are not manifests."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from longlive_core.takes import Manifest, TakeStore
from longlive_core.takes.manifest_file import FORMAT, _checksum, manifest_bytes

from .made_takes import manifest, place

STORY = "0s A red ball bounces\n4s A blue ball bounces {cut, seed=7}\n8s A star spins {blend=1s}"
Damage = Callable[[Path, Manifest], Any]  # writes something into the place of a take's manifest

# Values of every kind. As JSON text, since Python's encoder does not write some of them.
KINDS = {
    "null": "null",
    "true": "true",
    "number": "1",
    "fraction": "1.5",
    "below": "-5",
    "huge": str(10**30),
    "longest": "9" * 5000,
    "1e308": "1e308",
    "1e999": "1e999",
    "nan": "NaN",
    "infinity": "-Infinity",
    "text": '"x"',
    "no text": '""',
    "path": '"../../../../etc/passwd"',
    "surrogate": r'"\ud800"',
    "list": "[1]",
    "empty list": "[]",
    "object": '{"a": 1}',
    "empty object": "{}",
    "deep": "[" * 500 + "]" * 500,
}


def real() -> Manifest:
    """A take with every field that there may be."""
    take = manifest(1, STORY, 12)
    take.segments[1]["seed"], take.segments[2]["blend"] = 7, 1
    return take


def places_in(value: Any, at: tuple = ()) -> Iterator[tuple]:
    """The way to every value inside; of a list the first and the last are looked at."""
    if at:
        yield at
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        if not isinstance(value, list) or name in (0, len(value) - 1):
            yield from places_in(part, (*at, name))


def changed(fields: dict, at: tuple, text: str, version: int = FORMAT) -> bytes:
    """The file with other JSON in one place, and, as far as that can be, a right checksum."""
    fields, mark = copy.deepcopy(fields), "in this place"
    inside = fields
    for name in at[:-1]:
        inside = inside[name]
    inside[at[-1]] = mark
    try:
        checksum = _checksum(json.loads(json.dumps(fields).replace(f'"{mark}"', text)))
    except (ValueError, RecursionError):
        checksum = ""
    head = {"format": version} if version == 1 else {"format": version, "checksum": checksum}
    return json.dumps({**head, **fields}).replace(f'"{mark}"', text).encode("utf-8", "surrogatepass")


def fits(at: tuple, kind: str) -> bool:
    """Whether a value of KINDS may stand there in a manifest."""
    name = at[-1]
    if name in ("model", "text_encoder", "timeline", "exact", "text"):
        return kind in ("text", "no text", "path")
    if name == "dtype":
        return kind == "text"
    return (
        kind
        in {
            "given": ("number",),
            "created": ("number", "fraction"),
            "used": ("number", "fraction"),
            "window": ("number",),
            "sink": ("number",),
            "shift": ("number", "fraction"),
            "seed": ("number",),
            "context_noise": ("number", "fraction"),
            "fps": ("number", "fraction"),
            "crf": ("number",),
            "vae_width": ("number",),
            "blend": ("number",),
        }.get(name, ())
        or (at[:-1] == ("origin", "stream", "denoising_steps") and kind == "number")
        or (at == ("origin", "stream", "denoising_steps") and kind == "list")
        or (at == ("origin", "stream", "chunk") and kind == "number")
    )


def contents(good: bytes) -> dict[str, bytes]:
    """Files that are no manifest, by what is wrong with them."""
    text, fields = good.decode(), json.loads(good)
    twice = text.replace(' "seed": 7', ' "seed": 7, "seed": 8', 1).replace('"unit"', '"unit": "00000000", "unit"', 1)
    return {
        "empty": b"",
        "spaces": b" \n",
        "half": good[: len(good) // 2],
        "a bracket less": good.rstrip()[:-1],
        "no JSON": b"\x00" * 4096,
        "a text": b'"take"',
        "a list": b"[]",
        "a number": b"2",
        "nothing": b"null",
        "brackets": b"[" * 100_000,
        "closed brackets": b"[" * 100_000 + b"]" * 100_000,
        "objects": b'{"a":' * 100_000,
        "deep in a field": text.replace('"seed": 7', f'"seed": {"[" * 100_000}').encode(),
        "digits": b'{"format": 2, "used": ' + b"9" * 1_000_000 + b"}",
        "a mark": b"\xef\xbb\xbf" + good,
        "UTF-16": text.encode("utf-16"),
        "Latin-1": text.replace("red", "röt").encode("latin-1"),
        "twice": twice.encode(),
        "more behind it": good + b"{}",
        "no format": json.dumps({name: value for name, value in fields.items() if name != "format"}).encode(),
        "no checksum": json.dumps({k: v for k, v in fields.items() if k != "checksum"}).encode(),
        "another checksum": json.dumps({**fields, "checksum": "0" * 32}).encode(),
        "checksum of a kind": json.dumps({**fields, "checksum": [1]}).encode(),
        **{
            f"format {version}": json.dumps({**fields, "format": version}).encode()
            for version in (3, 99, 0, -1, 2.0, "x", "2", True, None, [2], {}, 10**30)
        },
    }


def obstacles() -> dict[str, Damage]:
    """What may be in the place of a manifest instead of a file, by name. Each keeps the take's folder."""
    found: dict[str, Damage] = {
        "a folder": lambda path, take: path.mkdir(),
        "a folder with something": lambda path, take: (path / "inside").mkdir(parents=True),
        "nothing": lambda path, take: None,
        "a huge file": _huge,
    }
    if os.name == "posix":
        found |= {
            "a dead link": lambda path, take: path.symlink_to("nowhere"),
            "a link to itself": lambda path, take: path.symlink_to(path.name),
            "a link to a device": lambda path, take: path.symlink_to("/dev/zero"),
            "a link to a folder": lambda path, take: path.symlink_to("/"),
            "a pipe": lambda path, take: os.mkfifo(path),
        }
    return found


def _huge(path: Path, take: Manifest) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)  # sparse


def all_damage() -> dict[str, Damage]:
    """Everything of the above that a store may meet, and a field of every kind."""

    def write(make: Callable[[bytes], bytes]) -> Damage:
        return lambda path, take: path.write_bytes(make(manifest_bytes(take)))

    found = {name: write(lambda good, name=name: contents(good)[name]) for name in contents(manifest_bytes(real()))}
    fields = {"created": "text", "used": "nan", "segments": "empty list", "origin": "empty object", "unit": "path"}
    found |= {
        f"{field} {kind}": (
            lambda path, take, at=(field,), kind=kind: path.write_bytes(changed(vars(take), at, KINDS[kind]))
        )
        for field, kind in fields.items()
    }
    return found | obstacles()


def spoiled(store: TakeStore) -> dict[str, str]:
    """Put a damaged take of each kind into a store, with its chunks; returns the kinds by id."""
    ids = {}
    for number, (name, damage) in enumerate(all_damage().items(), 1000):
        take = manifest(number, STORY, 12, used=float(number))
        place(store, take)
        path = store.take_folder(take.id) / "take.json"
        path.unlink()
        damage(path, take)
        ids[take.id] = name
    return ids
