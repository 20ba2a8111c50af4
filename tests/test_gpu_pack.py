"""scripts/gpu_pack: the content of the pack and the archive, and that the limit is compared with real sizes."""

import argparse
import subprocess
import tarfile
import zipfile

import pytest

from scripts import gpu_pack


@pytest.fixture
def pack(tmp_path, monkeypatch):
    """A pack of 3000 bytes, in a tree of its own."""
    folder = tmp_path / ".cache" / "gpu_pack"
    folder.mkdir(parents=True)
    (folder / "av.tar.xz").write_bytes(bytes(3000))
    monkeypatch.setattr(gpu_pack, "PACK", folder)
    monkeypatch.setattr(gpu_pack, "ROOT", tmp_path)
    (tmp_path / "needed.py").write_bytes(bytes(500))
    (tmp_path / "picture.png").write_bytes(bytes(9000))
    return folder


def in_checkout():
    return subprocess.run(["git", "ls-files"], cwd=gpu_pack.ROOT, capture_output=True, check=False).returncode == 0


def test_the_limit_counts_pack_and_tree(pack, capsys):
    """Forbids a bundle that is refused only where it is used."""
    names, left_out = ["needed.py", "picture.png"], {"picture.png"}
    assert gpu_pack.report(names, left_out, limit=3500, archive=None) == 0
    assert gpu_pack.report(names, left_out, limit=3499, archive=None) == 1
    assert "TOO LARGE" in capsys.readouterr().err


def test_the_commands_that_are_printed_work(pack, tmp_path, capsys):
    """Forbids a command that leaves too much in the tree, takes too much out, or cannot be undone."""

    def git(*arguments):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
            cwd=repository,
            check=True,
            capture_output=True,
        )

    repository = tmp_path / "checkout"
    kept = ["workflows/a.json", "docs/results/a.json", "longlive_core/pocket/weights/pocket_text_encoder.safetensors"]
    dropped = ["workflows/a.jpg", "docs/results/a.png", "longlive_core/pocket/weights/pocket_dit.safetensors"]
    for name in (*kept, *dropped):
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_bytes(b"x")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "a")
    gpu_pack.report([], set(), limit=10**9, archive=None)
    commands = [line.partition(":")[2].strip() for line in capsys.readouterr().out.splitlines() if "sparse" in line]
    there = []
    for line in commands:
        subprocess.run(line, shell=True, cwd=repository, check=True, capture_output=True)
        there.append({name for name in (*kept, *dropped) if (repository / name).exists()})
    assert there == [set(kept), {*kept, *dropped}]


@pytest.mark.skipif(not in_checkout(), reason="needs git and a checkout")
def test_what_is_left_out_is_tracked_and_what_steps_need_stays():
    """Forbids a bundle without recordings or text encoder, and patterns that match nothing any more."""
    left_out, tree = gpu_pack.not_needed_files(), set(gpu_pack.tree_files())
    assert left_out < tree and "longlive_core/pocket/weights/pocket_dit.safetensors" in left_out
    stays = tree - left_out
    assert len([name for name in stays if name.startswith("tests/fidelity/") and name.endswith(".safetensors")]) == 9
    assert {
        "longlive_core/pocket/weights/pocket_text_encoder.safetensors",
        "tests/naive.py",
        "scripts/harness/server.py",
        "benchmarks/gpu/__main__.py",
        "workflows/api/12_comfyui_loaders_pocket.json",
    } <= stays


@pytest.mark.skipif(not in_checkout(), reason="needs git and a checkout")
def test_the_tree_leaves_room_for_the_pack():
    """Forbids a repository that grows until the bundle no longer fits: the pack takes 34.6 MiB of 64."""
    left_out = gpu_pack.not_needed_files()
    tree = gpu_pack.disk_size(name for name in gpu_pack.tree_files() if name not in left_out)
    assert tree < 29 * 2**20


def test_the_archive_holds_tree_and_pack(pack, tmp_path):
    """Forbids an archive that unpacks to something else than a checkout that is ready to run."""
    gpu_pack.write_archive(tmp_path / "all.tar", ["needed.py"], pack)
    with tarfile.open(tmp_path / "all.tar") as tar:
        names = {name.removeprefix("ComfyUI-LongLive/") for name in tar.getnames()}
    assert names == {"needed.py", ".cache/gpu_pack", ".cache/gpu_pack/av.tar.xz"}


def test_folders_are_left_out_at_the_top_only(tmp_path):
    """Forbids a ComfyUI without comfy/ldm/models because models of users are left out."""
    source = tmp_path / "ComfyUI"
    for name in ("models/big.pt", "comfy/ldm/models/a.py", "comfy/llama_tokenizer/t.json", "main.py"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    gpu_pack.pack_folder(source, "ComfyUI", tmp_path / "a.tar.xz", gpu_pack.NOT_COMFYUI, gpu_pack.NOT_COMFYUI_TOP)
    with tarfile.open(tmp_path / "a.tar.xz") as tar:
        files = {entry.name for entry in tar if entry.isfile()}
    assert files == {"ComfyUI/comfy/ldm/models/a.py", "ComfyUI/main.py"}


def test_a_pack_is_made_and_kept_until_something_changes(pack, tmp_path, monkeypatch):
    """Forbids minutes of packing for every change of the tree, and a pack of last month's packages."""
    calls = []

    def download(lines, python, folder):
        calls.append(lines)
        wheel = folder / "av-9.9-cp312-abi3-linux_x86_64.whl"
        with zipfile.ZipFile(wheel, "w") as content:
            content.writestr("av/__init__.py", "")
        return {"av": wheel}

    monkeypatch.setattr(gpu_pack, "download", download)
    comfyui = tmp_path / "ComfyUI"
    comfyui.mkdir()
    (comfyui / "comfyui_version.py").write_text('__version__ = "0.3.75"\n', encoding="utf-8")
    for python in ("3.12", "3.12", "3.13"):
        gpu_pack.make_pack(pack, python, ["av"], comfyui)
    manifest = gpu_pack.read_json(pack / "manifest.json")
    assert len(calls) == 2 and calls[0][0].startswith("av")
    assert manifest["made for"] == "Python 3.13, Linux x86_64" and manifest["packages"]["av"]["version"] == "9.9"
    with tarfile.open(pack / "av.tar.xz") as tar:
        assert "av/__init__.py" in tar.getnames()


def test_sizes():
    assert [gpu_pack.size_of(text) for text in ("64MiB", "1.5 GB", "700")] == [64 * 2**20, 15 * 10**8, 700]
    with pytest.raises(argparse.ArgumentTypeError, match="'much'"):
        gpu_pack.size_of("much")
