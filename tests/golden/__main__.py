"""`python -m tests.golden [--write [PART ...]]`: compare what is made with what is expected, or expect what is made."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from . import compare
from .record import PARTS, make


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parts = ", ".join(PARTS)
    parser.add_argument(
        "--write",
        nargs="*",
        choices=PARTS,
        metavar="PART",
        help=f"write these parts anew ({parts}; default: all); README.md here says when",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = make(Path(folder) / "golden")
    if options.write is not None:
        compare.write(made, tuple(options.write or PARTS))
        return 0
    known = {part: compare.expected(part) for part in PARTS}
    found = [line for part in PARTS for line in compare.differences(part, known[part], made[part])]
    print("\n".join(found))
    print("largest differences of numbers:", compare.largest(known["numbers"], made["numbers"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
