"""Starts ComfyUI's main.py, also beside a PyTorch for CPUs: launch_comfyui.py FOLDER [ComfyUI's arguments]

On Linux the package indexes have no torchvision for such a PyTorch. Its Python part imports once two operators are
defined that the binary part would bring; ComfyUI uses neither of them.

LONGLIVE_STANDINS=1 puts stand-ins where packages are missing that a film does without, see `standins.py`.
"""

import os
import runpy
import sys
from pathlib import Path

EXTRAS = Path(__file__).resolve().parent.parent / ".comfyui" / "extras"


def provide_torchvision() -> None:
    sys.path.append(str(EXTRAS))
    try:
        import torchvision  # noqa: F401 - builds for macOS and Windows, or for CUDA, are whole
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        define_operators()


def define_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    define_operators.library = library  # the definitions live as long as the object


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
