"""Recognise files that hold no weights, by their first bytes: files downloaded or chosen by accident."""

from __future__ import annotations

import json

BEGINNING = 4096  # bytes that are inspected

_AGAIN = "the download failed (often a missing login); download the file again"
_UNPACK = "unpack it and give the file of weights in it"
_MAGIC = (
    (b"GGUF", "is a GGUF file; load it with ComfyUI-GGUF's own loader and connect its MODEL"),
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself; run `git lfs pull` or download the file"),
    (b"Rar!", f"is a RAR archive; {_UNPACK}"),
    (b"7z\xbc\xaf\x27\x1c", f"is a 7z archive; {_UNPACK}"),
    (b"\x1f\x8b", f"is packed with gzip; {_UNPACK}"),
    (b"\xfd7zXZ", f"is packed with xz; {_UNPACK}"),
    (b"\x28\xb5\x2f\xfd", f"is packed with zstd; {_UNPACK}"),
    (b"BZh", f"is packed with bzip2; {_UNPACK}"),
    (b"PK\x05\x06", "is an empty zip archive; download the file again"),
    (b"\x89PNG", "is a picture (PNG), not weights"),
    (b"\xff\xd8\xff", "is a picture (JPEG), not weights"),
    (b"RIFF", "is a picture or a clip, not weights"),
    (b"\x1aE\xdf\xa3", "is a clip (MKV or WebM), not weights"),
    (b"\x89HDF", "is an HDF5 file, which is not read here; get a safetensors file"),
    (b"\x93NUMPY", "is a NumPy file, which is not read here; get a safetensors file"),
    (b"%PDF", f"is a PDF, not weights: {_AGAIN}"),
)


def describe_not_weights(start: bytes, size: int) -> str:
    """Return what a file is and what to do, to follow its name. start: its first BEGINNING bytes. size: of the file."""
    if size == 0:
        return "is empty (0 bytes): the download did not begin, or the disk was full; download it again"
    if not start.strip(b"\0"):
        return (
            f"begins with zeros ({size} bytes in all): the download allocated the file and did not fill it; "
            "download it again"
        )
    found = next((what for magic, what in _MAGIC if start.startswith(magic)), None)
    if found is None and start[4:8] == b"ftyp":
        found = "is a clip (MP4 or MOV), not weights"
    if found is None and start[257:262] == b"ustar":
        found = f"is a tar archive; {_UNPACK}"
    return (
        found
        or _text(start)
        or (
            f"({size} bytes) is neither a safetensors file nor a PyTorch file; download it again, or check that it "
            "is the right file"
        )
    )


def _text(start: bytes) -> str | None:
    """Describe a text file: a web page, a server's reply, settings; None if it is not text."""
    try:
        text = start.decode("utf-8-sig", errors="strict" if len(start) < BEGINNING else "ignore").strip()
    except UnicodeDecodeError:
        return None
    if not text or not all(letter.isprintable() or letter.isspace() for letter in text):
        return None
    if text.startswith("<"):
        return f"is a web page, not weights: {_AGAIN}"
    first = " ".join(text.splitlines()[0].split())[:80]
    if text[0] in "{[":
        return f"is a JSON file, not weights ({_first_names(text)}); give the file of weights, which is much larger"
    return f'is a text file, not weights (it begins "{first}"): {_AGAIN}'


def _first_names(text: str) -> str:
    try:
        content = json.loads(text)
    except ValueError:
        return f"it begins {' '.join(text.split())[:60]}"
    return "it holds " + ", ".join(map(str, content))[:80] if isinstance(content, dict) else "it is a list"
