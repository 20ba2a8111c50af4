"""Start a ComfyUI inside the process of an inside_*.py script."""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from unittest.mock import MagicMock


def start_comfyui(comfyui: str, pack: str) -> None:
    """Put ComfyUI on the path, provide missing packages, and let it read its flags: --cpu."""
    scripts = str(Path(pack) / "scripts")
    sys.path.insert(0, scripts)
    import launch_comfyui

    if launch_comfyui.EXTRAS.is_dir():
        launch_comfyui.provide_torchvision()
    sys.path.remove(scripts)
    sys.path.insert(0, comfyui)
    sys.argv = [sys.argv[0], "--cpu"]
    if importlib.util.find_spec("torchaudio") is None:  # newer versions import it at the top; it is not used here
        for module in ("torchaudio", "torchaudio.functional", "torchaudio.transforms"):
            sys.modules[module] = MagicMock(__spec__=ModuleSpec(module, None))
    import comfy.options

    comfy.options.enable_args_parsing()


def import_pack(pack: str) -> None:
    """Import the pack as `pack`: ComfyUI has a module `nodes` too."""
    spec = importlib.util.spec_from_file_location("pack", Path(pack) / "__init__.py", submodule_search_locations=[pack])
    sys.modules["pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["pack"])
