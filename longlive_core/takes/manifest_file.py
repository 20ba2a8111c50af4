"""The file of a manifest (take.json). A person may have edited it, or a disk may have damaged it.

    {"format": 2, "checksum": ..., "id": ..., ...}      the fields of `Manifest`, one per line

Its content is untrusted. The types, ranges and lengths of its fields are in one table (`_FIELDS`), contradictions
between fields are found by `_fault`. The id verifies keys and unit, the checksum everything; format 1 had no checksum.
"""

from __future__ import annotations

import json
import os
from hashlib import blake2b
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from ..config import POSITIONS, SINK_POLICIES
from ..engine.noise import MAX_SEED
from ..files import nofollow
from ..files.fields import UnknownField, items, number, one_of, read_json, record, short_repr, text, whole
from ..timeline import TRANSITIONS
from .errors import TakeError, TakeMissing
from .manifest import Manifest, damaged, remedy, take_id

FORMAT = 2  # of this file; the format of the keys is `keys.KEY_FORMAT`, which stays
_READABLE = (1, FORMAT)
MOST_BYTES = 64 * 2**20
_CHECKSUM = 16  # bytes

_MOST_CHUNKS, _MOST_PIXELS, _MOST_FRAMES = 4_000_000, 2**15, 2**20
_NAMES, _WORDS = 2000, 2**24  # most characters of a name, of a timeline
_YEAR_3000 = 32_503_680_000  # in seconds since 1970; no system's calendar ends earlier

_key = text(32, "[0-9a-f]{32}", "32 hexadecimal digits")
_pixels = whole(2, _MOST_PIXELS)
_stream = record(
    {
        "window": whole(-1, _MOST_FRAMES),
        "sink": whole(0, _MOST_FRAMES),
        "chunk": whole(1, 1024),
        "sink_policy": one_of(*SINK_POLICIES),
        "positions": one_of(*POSITIONS),
        "denoising_steps": items(whole(1, 1000), 1, 1000),
        "shift": number(0, 1e6),
        "context_noise": number(0, 1000),
    }
)
_origin = record(
    {
        "model": text(_NAMES),
        "text_encoder": text(_NAMES),
        "dtype": text(32, "[a-z][a-z0-9_]*", "the name of a dtype"),
        "stream": _stream,
        "size": items(_pixels, 2, 2),
        "seed": whole(0, MAX_SEED),
    }
)
_segment = record(
    {
        "chunk": whole(0, _MOST_CHUNKS),
        "transition": one_of(*TRANSITIONS),
        "text": text(_WORDS),
    },
    {
        "seed": whole(0, MAX_SEED),
        "blend": whole(1, _MOST_CHUNKS),
    },
)
_encoding = record(
    {
        "width": _pixels,
        "height": _pixels,
        "fps": number(1e-3, 1e5),
        "crf": whole(0, 51),
    }
)
_seconds = number(0, _YEAR_3000)

_FIELDS = record(
    {
        "id": text(12, "[0-9a-f]{12}", "twelve hexadecimal digits"),
        "timeline": text(_WORDS),
        "exact": text(_WORDS),
        "origin": _origin,
        "segments": items(_segment, 1, _MOST_CHUNKS),
        "shots": items(items(_key, 1, _MOST_CHUNKS), 1, _MOST_CHUNKS),
        "encoding": _encoding,
        "unit": text(8, "[0-9a-f]{8}", "8 hexadecimal digits"),
        "vae_width": whole(1, 2**16),
        "given": whole(0, _MOST_CHUNKS),
        "created": _seconds,
        "used": _seconds,
    }
)


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return the content of a manifest's file. TakeError if `read_manifest` would refuse it."""
    fields = vars(manifest)
    try:
        _check(fields)
    except ValueError as error:
        raise TakeError(f"take {manifest.id} cannot be kept: {error}") from error
    data = _file_of({"format": FORMAT, "checksum": _checksum(fields), **fields})
    if len(data) > MOST_BYTES:
        raise TakeError(
            f"take {manifest.id} cannot be kept: its timeline and settings take {len(data)} bytes, and "
            f"{MOST_BYTES} are allowed; render it in parts, each extending the one before"
        )
    return data


def read_manifest(path: Path, take: str) -> Manifest:
    """Return the manifest of the take with that id. TakeError with the reason: missing, damaged, of another version.

    path: its file, in the take's folder.
    """
    try:
        return _parsed(nofollow.read(path, MOST_BYTES), take)
    except TakeError as error:
        error.take = take
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _not_there(path, take) from error
    except OSError as error:
        raise _error(damaged(take, f"'{path}' cannot be read: {error.strerror}"), take) from error
    except UnknownField as error:
        raise _error(
            f"take {take} is of another version of the pack ({error}); update the pack, or {remedy(take)}", take
        ) from error
    except ValueError as error:
        raise _error(damaged(take, f"'{path}': {error}"), take) from error


def _error(message: str, take: str, kind: type[TakeError] = TakeError) -> TakeError:
    error = kind(message)
    error.take = take
    return error


def _not_there(path: Path, take: str) -> TakeError:
    folder = path.parent
    if os.path.lexists(folder) and not folder.is_dir():
        return _error(damaged(take, f"'{folder}' is not a folder"), take)
    if path.is_symlink():
        return _error(damaged(take, f"'{path}' is a link to nothing"), take)
    if folder.is_dir():
        return _error(f"take {take} has no take.json, which says what it is; {remedy(take)}", take, TakeMissing)
    return _error(f"there is no take {take} in '{folder.parents[1]}'; see `takes list`", take, TakeMissing)


def _parsed(data: bytes, take: str) -> Manifest:
    """Parse a manifest. ValueError if it is damaged, TakeError if it is of a newer version or of another take."""
    if not data:
        raise ValueError("it is empty")
    fields = read_json(data)
    if not isinstance(fields, dict) or "format" not in fields:
        raise ValueError("it has no format")
    version, checksum = fields.pop("format"), fields.pop("checksum", None)
    if type(version) is not int or version not in _READABLE:
        raise TakeError(
            f"take {take} has format {short_repr(version)}, this version reads {_READABLE[0]} to {FORMAT}; "
            f"update the pack, or {remedy(take)}"
        )
    if version == 1:
        fields = _of_format_1(fields)
    _check(fields)
    if (version > 1 or checksum is not None) and checksum != _checksum(fields):
        raise ValueError("it is not what was written: a bit has flipped, or the file was edited")
    if fields["id"] != take:
        raise TakeError(
            f"take {take} says that it is take {fields['id']}: its folder was copied or renamed; give it "
            f"that name, or remove it: takes remove {take}"
        )
    return Manifest(**fields)


def _of_format_1(fields: dict[str, Any]) -> dict[str, Any]:
    """Convert fields of format 1: some were optional, and `given` could exceed the number of chunks of a film that
    ended within its start chunks."""
    fields = {"given": 0, "created": 0.0, "used": 0.0, **fields}
    shots, given = fields.get("shots"), fields["given"]
    if type(given) is int and given <= _MOST_CHUNKS and isinstance(shots, list):
        fields["given"] = min(given, sum(len(shot) for shot in shots if isinstance(shot, list)))
    return fields


def _check(fields: dict[str, Any]) -> None:
    """Raise ValueError if a field is wrong, or fields contradict each other."""
    _FIELDS(fields, "")
    fault = _fault(fields)
    if fault is not None:
        raise ValueError(fault)


def _fault(fields: dict[str, Any]) -> str | None:
    """Return how fields contradict each other, or None."""
    segments, shots, encoding = fields["segments"], fields["shots"], fields["encoding"]
    *begins, chunks = accumulate((len(shot) for shot in shots), initial=0)
    starts = [segment["chunk"] for segment in segments]
    cuts = [segment["chunk"] for segment in segments[1:] if segment["transition"] == "cut"]
    if starts[0] != 0 or starts[-1] >= chunks or any(after <= before for before, after in pairwise(starts)):
        return f"its prompts begin at the chunks {short_repr(starts)}; allowed: from 0, increasing, below {chunks}"
    if begins[1:] != cuts:
        return f"its shots begin at the chunks {short_repr(begins)}, but its cuts are at {short_repr(cuts)}"
    if fields["given"] > chunks:
        return f"it begins with {fields['given']} given chunks, but has {chunks}"
    if [encoding["width"], encoding["height"]] != fields["origin"]["size"]:
        return "its film has another size than its pictures"
    if fields["id"] != take_id(shots, fields["unit"]):
        return "its id is not that of its chunks"
    return None


def _checksum(fields: dict[str, Any]) -> str:
    """Return the checksum of the fields' content, independent of the file's layout."""
    plain = json.dumps(fields, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return blake2b(plain.encode(), digest_size=_CHECKSUM).hexdigest()


def _file_of(fields: dict[str, Any]) -> bytes:
    """Return the file with one line per field, so that people can read it."""
    lines = (f" {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items())
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()
