"""A ComfyUI server with its own folders and port, and this pack in custom_nodes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = ROOT / "scripts" / "launch_comfyui.py"
PACK_NAME = "ComfyUI-LongLive"
FOLDERS = (
    "models/diffusion_models",
    "models/vae",
    "models/loras",
    "models/text_encoders",
    "custom_nodes",
    "input",
    "output",
    "temp",
    "user",
)
NOT_COPIED = (".git", ".venv", ".comfyui", ".cache", "output", "__pycache__", ".pytest_cache", ".ruff_cache")
START_DEADLINE = 900.0  # seconds; a newer ComfyUI took 195 on a loaded machine


def comfyui_path() -> Path | None:
    """Return ComfyUI's folder: COMFYUI_PATH, else the copy of scripts/setup; None if there is neither."""
    folder = Path(os.environ.get("COMFYUI_PATH") or ROOT / ".comfyui" / "ComfyUI")
    return folder if (folder / "main.py").is_file() else None


class ComfyServer:
    """A server process; use it as a context manager.

    Args:
        base: folder for models, input, output, temp and user files; created if it is missing.
        port: a free port by default.
        arguments: more flags for ComfyUI.

    Attributes: url, log (path of what the server prints), process.
    """

    def __init__(self, base: Path, port: int | None = None, arguments: tuple[str, ...] = ()):
        self.base, self.port, self.arguments = Path(base).resolve(), port or _free_port(), arguments
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = self.base / "server.log"
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> ComfyServer:
        self.start()
        return self

    def __exit__(self, *error) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until it answers. Raises RuntimeError with the end of the log if it does not."""
        folder = comfyui_path()
        if folder is None:
            raise RuntimeError("there is no ComfyUI; run scripts/setup, or set COMFYUI_PATH to a ComfyUI's folder")
        for name in FOLDERS:
            (self.base / name).mkdir(parents=True, exist_ok=True)
        place_pack(self.base / "custom_nodes" / PACK_NAME)
        database = (self.base / "user" / "comfyui.db").as_posix()
        command = [
            sys.executable,
            str(LAUNCHER),
            str(folder),
            "--base-directory",
            str(self.base),
            "--port",
            str(self.port),
            "--disable-auto-launch",
            "--disable-api-nodes",
            "--database-url",
            f"sqlite:///{database}",
            *_device(),
            *self.arguments,
        ]
        environment = {**os.environ, "PYTHONUTF8": "1", "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_DEADLINE
        while not self._answers():
            try:
                self.process.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                if time.monotonic() < deadline:
                    continue
                raise RuntimeError(f"ComfyUI did not answer within {START_DEADLINE:g} s:\n{self.tail()}") from None
            raise RuntimeError(f"ComfyUI ended with code {self.process.returncode}:\n{self.tail()}")

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/system_stats", timeout=60) as response:
                return response.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def forget_takes(self) -> None:
        """Remove all takes, so that the next film is rendered from the beginning."""
        shutil.rmtree(self.base / "output" / "longlive", ignore_errors=True)

    def tail(self, lines: int = 60) -> str:
        """Return the end of the log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def place_pack(target: Path) -> None:
    """Install this pack at `target`: as a link, or as a copy if the system does not allow links."""
    if target.is_symlink() or target.exists():
        return
    try:
        target.symlink_to(ROOT, target_is_directory=True)
    except OSError:
        shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*NOT_COPIED))


def _device() -> list[str]:
    import torch

    # ComfyUI's default attention on a CPU is split to save memory; PyTorch's own is faster.
    return [] if torch.cuda.is_available() else ["--cpu", "--use-pytorch-cross-attention"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
