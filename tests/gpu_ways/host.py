"""A real ComfyUI in this process that believes it has a graphics card. For processes of their own (run.py).

The pack is imported as `longpack`; ComfyUI is the one of COMFYUI_PATH, else the copy that scripts/setup created.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import MagicMock

import torch

from .card import CUDA
from .events import ROOT

UNUSED = ("torchaudio", "torchaudio.functional", "torchaudio.transforms", "simpleeval", "blake3")
PLENTY = 64 << 30  # bytes that are free on the card
NATIVE = {"bf16": (True, False), "fp16": (False, True), "both": (True, True)}  # computes in bf16, in fp16


def start(folder: Path):
    """Import ComfyUI and the pack. folder: for output, temporary files and caches. -> the pack."""
    comfyui = Path(os.environ.get("COMFYUI_PATH") or ROOT / ".comfyui" / "ComfyUI").resolve()
    sys.argv = [sys.argv[0], "--cpu", "--use-pytorch-cross-attention"]
    sys.path[:0] = [str(comfyui)]
    _provide_packages()
    import comfy.options

    comfy.options.enable_args_parsing()
    import folder_paths

    folder_paths.set_output_directory(str(folder / "output"))
    folder_paths.set_temp_directory(str(folder / "temp"))
    spec = importlib.util.spec_from_file_location(
        "longpack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    pack = sys.modules["longpack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)
    importlib.import_module("longpack.nodes")
    return pack


def _provide_packages() -> None:
    sys.path.append(str(ROOT / "scripts"))
    import launch_comfyui

    if launch_comfyui.EXTRAS.is_dir():
        launch_comfyui.provide_torchvision()
    for name in UNUSED:
        try:
            importlib.import_module(name)
        except Exception:  # newer hosts import them at their top; nothing here uses them
            stub = sys.modules[name] = MagicMock()
            stub.__spec__, stub.__version__ = importlib.machinery.ModuleSpec(name, None), "0"


@contextmanager
def with_card(native: str, card: bool, share: float = 1.0):
    """Make ComfyUI believe which 16-bit dtypes are native, and where to compute.

    card: on cuda:0; otherwise it knows that it is on a CPU, which then computes natively in these 16 bits.
    share: the part of a model's weights for which there is room; a text encoder of other layers than ComfyUI's, which
        are never loaded in part by their weights alone, has all it wants.
    """
    import comfy.model_management as management

    bf16, fp16 = NATIVE[native]
    answers = {"should_use_bf16": lambda *args, **options: bf16, "should_use_fp16": lambda *args, **options: fp16}
    if card:
        answers |= {
            "get_torch_device": lambda: CUDA,
            "get_free_memory": _free_memory,
            "get_total_memory": _free_memory,
            "vram_state": management.VRAMState.NORMAL_VRAM,
        }
    load = management.LoadedModel.model_load

    def load_in_part(self, *args, **options):
        castable = any(hasattr(module, "comfy_cast_weights") for module in self.model.model.modules())
        return load(self, max(1, int(self.model.model_size() * share)) if castable else 0)

    with _replaced(management, answers):
        if share == 1.0:
            yield
            return
        with _replaced(management.LoadedModel, {"model_load": load_in_part}):
            yield


def _free_memory(device=None, torch_free_too=False, torch_total_too=False):
    return (PLENTY, PLENTY) if torch_free_too or torch_total_too else PLENTY


@contextmanager
def _replaced(owner, members: dict):
    before = {name: getattr(owner, name) for name in members}
    for name, value in members.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


def version() -> str:
    import comfyui_version

    return comfyui_version.__version__


@contextmanager
def plain_cpu():
    """As `with_card`, for a plain CPU that computes in float32."""
    import comfy.model_management as management

    with _replaced(management, {"should_use_bf16": lambda *a, **k: False, "should_use_fp16": lambda *a, **k: False}):
        yield


def release() -> None:
    """Forget all models, as if the server were new."""
    import comfy.model_management as management

    management.unload_all_models()
    torch.compiler.reset()
