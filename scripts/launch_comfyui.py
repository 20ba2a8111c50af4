"""Start ComfyUI's main.py, also with a PyTorch for CPUs: launch_comfyui.py FOLDER [ComfyUI's arguments]

On Linux, package indexes have no torchvision for a CPU-only PyTorch. Its Python part can be imported once two operators
of its binary part are defined; ComfyUI uses neither.

LONGLIVE_STANDINS=1 replaces missing packages that a render does not need, see `standins.py`.
"""

import os
import runpy
import sys
from pathlib import Path

EXTRAS = Path(__file__).resolve().parent.parent / ".comfyui" / "extras"


def provide_torchvision() -> None:
    sys.path.append(str(EXTRAS))
    try:
        import torchvision  # noqa: F401 - builds for macOS, Windows and CUDA are complete
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        define_operators()


def define_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    define_operators.library = library  # keeps the definitions alive


def main() -> None:
    folder = Path(sys.argv[1])
    if EXTRAS.is_dir():
        provide_torchvision()
    if os.environ.get("LONGLIVE_STANDINS") == "1":
        import standins

        print("not installed, replaced by stand-ins:", ", ".join(standins.provide()) or "nothing", flush=True)
    sys.path.insert(0, str(folder))
    sys.argv = [str(folder / "main.py"), *sys.argv[2:]]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
