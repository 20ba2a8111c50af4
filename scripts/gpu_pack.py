"""Prepares `python -m benchmarks.gpu` for a GPU machine without network. Run it with scripts/gpu_pack.

gpu_pack [--python 3.12] [--without pillow ...] [--limit 64MiB] [--archive FILE.tar]

Writes .cache/gpu_pack (ignored by git): a ComfyUI, and the packages that are needed beside PyTorch, transformers and
safetensors, one archive each. Copy the checkout and that folder to the machine, or with --archive one file that
contains both; then, in the checkout: python -m benchmarks.gpu --out FOLDER

Prints the sizes, the tracked files that the run does not need, and the commands that remove these from the working tree
and restore them. If tree and pack together are larger than --limit, it reports that and ends with exit code 1.
"""

from __future__ import annotations

import argparse
import lzma
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.gpu.environment import MANIFEST, PACK, PACKAGES, commit, find_comfyui, python_name  # noqa: E402
from benchmarks.gpu.notes import read_json, write_json  # noqa: E402

NAME = "ComfyUI-LongLive"
# Tracked files that the run does not need, as .gitignore patterns. The text encoder's file and all recordings stay.
NOT_NEEDED = (
    "/longlive_core/pocket/weights/pocket_dit.safetensors",
    "/longlive_core/pocket/weights/pocket_vae.safetensors",
    "/docs/results/*.png",
    "/docs/results/*.webp",
    "/docs/images/*",
    "/web/docs/*.webp",
    "/workflows/*.jpg",
)
# Parts of ComfyUI that are not packed: nodes of paid services, tests, users' files (in its top folder), a tokenizer of
# 2 MB that Wan does not use, and leftovers.
NOT_COMFYUI_TOP = {
    "comfy_api_nodes",
    "tests",
    "tests-unit",
    "models",
    "input",
    "output",
    "temp",
    "user",
    "custom_nodes",
}
NOT_COMFYUI = {"llama_tokenizer", "__pycache__", ".git", ".github"}
PLATFORMS = [f"manylinux_2_{n}_x86_64" for n in (28, 27, 17)] + ["manylinux2014_x86_64", "manylinux1_x86_64"]
XZ = {"format": lzma.FORMAT_XZ, "preset": 9 | lzma.PRESET_EXTREME}
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    comfyui = find_comfyui()
    if comfyui is None:
        raise SystemExit("there is no ComfyUI to pack; run scripts/setup, or set COMFYUI_PATH to a ComfyUI's folder")
    make_pack(PACK, options.python, [n for n in dict.fromkeys(PACKAGES.values()) if n not in options.without], comfyui)
    needed, left_out = tree_files(), not_needed_files()
    if options.archive is not None:
        write_archive(options.archive, [name for name in needed if name not in left_out], PACK)
    return report(needed, left_out, options.limit, options.archive)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/gpu_pack", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", default="3.12", help="the machine's Python version (default: 3.12)")
    parser.add_argument(
        "--without",
        nargs="*",
        default=[],
        metavar="NAME",
        choices=sorted(set(PACKAGES.values())),
        help="packages that the machine has",
    )
    parser.add_argument("--limit", type=size_of, default=size_of("64MiB"), help="for tree and pack (default: 64MiB)")
    parser.add_argument("--archive", type=Path, metavar="FILE.tar", help="also write tree and pack as one file")
    return parser.parse_args(arguments)


def size_of(text: str) -> int:
    """Return the bytes of a text such as '64MiB'."""
    found = re.fullmatch(r"([0-9.]+)\s*([a-z]*)", text.strip().lower())
    if not found or found[2].upper() not in UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write 64MiB, 60MB or a number of bytes")
    return int(float(found[1]) * UNITS[found[2].upper()])


def make_pack(target: Path, python: str, packages: list[str], comfyui: Path) -> None:
    """Write the pack with these packages for Linux on x86-64, unless it exists with the same contents."""
    lines = [wanted(name) for name in packages]
    made_of = {"made for": python_name(python), "wanted": lines, "comfyui version": comfyui_version(comfyui)}
    manifest = read_json(target / MANIFEST)
    if {name: manifest.get(name) for name in made_of} != made_of:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        pack_folder(comfyui, "ComfyUI", target / "comfyui.tar.xz", NOT_COMFYUI, NOT_COMFYUI_TOP)
        manifest = made_of | {"comfyui": {"archive": "comfyui.tar.xz"}, "packages": {}}
        with tempfile.TemporaryDirectory() as folder:
            wheels = download(lines, python, Path(folder))
            for name in packages:
                wheel, archive = wheels[canonical(name)], f"{name}.tar.xz"
                pack_wheel(wheel, target / archive)
                manifest["packages"][name] = {"archive": archive, "version": wheel.name.split("-")[1]}
    write_json(target / MANIFEST, manifest | {"commit": commit(), "date": date.today().isoformat()})


def wanted(name: str) -> str:
    """Return the requirement of the version installed (and so tested) here; of any version if none is installed."""
    try:
        return f"{name}=={version(name)}"
    except PackageNotFoundError:
        return name


def download(packages: list[str], python: str, folder: Path) -> dict[str, Path]:
    """Download wheels and return them by package name."""
    platforms = [part for name in PLATFORMS for part in ("--platform", name)]
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--implementation",
        "cp",
        "--python-version",
        python,
        *platforms,
        "--dest",
        str(folder),
        *packages,
    ]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return {canonical(wheel.name.split("-")[0]): wheel for wheel in folder.glob("*.whl")}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pack_wheel(wheel: Path, archive: Path) -> None:
    """Write a wheel's files as .tar.xz, which is a quarter smaller."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as content:
        content.extractall(folder)
        pack_folder(Path(folder), "", archive)


def pack_folder(folder: Path, inside: str, archive: Path, without=frozenset(), without_top=frozenset()) -> None:
    """Write a folder as .tar.xz under the name `inside`, without some names: anywhere, or at its top only."""

    def keep(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        return None if without & set(Path(entry.name).parts) else entry

    with lzma.open(archive, "wb", **XZ) as file, tarfile.open(fileobj=file, mode="w") as tar:
        for path in sorted(set(folder.iterdir()) - {folder / name for name in without_top}):
            tar.add(path, f"{inside}/{path.name}" if inside else path.name, filter=keep)


def comfyui_version(folder: Path) -> str:
    found = re.search(r'__version__ = "(.+)"', (folder / "comfyui_version.py").read_text(encoding="utf-8"))
    return found[1] if found else "unknown"


def git_files(*arguments: str) -> list[str]:
    done = subprocess.run(["git", "ls-files", "-z", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split("\0") if name]


def tree_files() -> list[str]:
    """Return the files of a working tree: tracked files, and new ones that git does not ignore."""
    return git_files("--cached", "--others", "--exclude-standard")


def not_needed_files() -> set[str]:
    return set(git_files("--", *(f":(glob){pattern.lstrip('/')}" for pattern in NOT_NEEDED)))


def write_archive(target: Path, names: list[str], pack: Path) -> None:
    """Write tree and pack into one file, uncompressed: its large parts are compressed already."""
    with tarfile.open(target, "w") as tar:
        for name in names:
            if (ROOT / name).exists():
                tar.add(ROOT / name, f"{NAME}/{name}")
        tar.add(pack, f"{NAME}/{PACK.relative_to(ROOT).as_posix()}")


def report(needed: list[str], left_out: set[str], limit: int, archive: Path | None) -> int:
    """Print sizes and commands. Return 1 if it is too large, else 0."""
    tree, less = disk_size(name for name in needed if name not in left_out), disk_size(left_out)
    files = sorted(PACK.iterdir(), key=lambda file: -file.stat().st_size)
    pack = sum(file.stat().st_size for file in files)
    print(f"{PACK.relative_to(ROOT)}:")
    for file in files:
        print(f"  {mib(file.stat().st_size)}  {file.name}")
    print(f"{mib(pack)}  pack")
    print(f"{mib(tree)}  tree without {len(left_out)} files that the run does not need ({mib(less)})")
    print(f"{mib(pack + tree)}  together; the limit is {mib(limit)}")
    if archive is not None:
        print(
            f"{mib(archive.stat().st_size)}  {archive}: unpack it there, then in {NAME}: "
            "python -m benchmarks.gpu --out FOLDER"
        )
    print("\nnot needed:", *sorted(left_out), sep="\n  ")
    patterns = " ".join(shlex.quote(f"!{pattern}") for pattern in NOT_NEEDED)
    print(f"\nremove them from the working tree:  git sparse-checkout set --no-cone '/*' {patterns}")
    print("restore them:                       git sparse-checkout disable")
    if pack + tree > limit:
        print(
            f"\nTOO LARGE by {mib(pack + tree - limit)}: omit packages that the machine has (--without "
            f"{' '.join(file.name.split('.')[0] for file in files[:3])} ...), or raise --limit",
            file=sys.stderr,
        )
        return 1
    return 0


def disk_size(names) -> int:
    return sum(os.lstat(ROOT / name).st_size if (ROOT / name).exists() else _stored_size(name) for name in names)


def _stored_size(name: str) -> int:
    """Return the size of a tracked file that is not in the working tree."""
    done = subprocess.run(["git", "cat-file", "-s", f":{name}"], cwd=ROOT, capture_output=True, text=True, check=False)
    return int(done.stdout or 0)


def mib(size: int) -> str:
    return f"{size / 2**20:6.2f} MiB"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(f"this command failed: {shlex.join(map(str, error.cmd))}")
