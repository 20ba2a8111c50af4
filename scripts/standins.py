"""Stand-ins for modules that ComfyUI imports at the top but that are not installed, for a bare machine.

ComfyUI's list of requirements is long, and a render needs few of them. `provide()` replaces each module of NOT_NEEDED
that is not installed by a module in which every name is a class that does nothing. Nodes that really use such a module
fail or do nothing, so this is only for a server that renders our films (`benchmarks.gpu`), never for a user's ComfyUI.
`launch_comfyui.py` calls it if LONGLIVE_STANDINS=1.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import ModuleType

NOT_NEEDED = ("torchvision", "torchaudio", "kornia", "spandrel", "scipy", "torchsde", "requests", "sentencepiece")


class _Names(type):
    """A class of which every attribute is `StandIn`."""

    def __getattr__(cls, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn

    def __iter__(cls):
        return iter(())

    def __or__(cls, other):
        return cls

    __ror__ = __or__


class StandIn(metaclass=_Names):
    """Replaces any class, function or decorator. As a decorator it returns the function unchanged."""

    def __new__(cls, *given, **options):
        if len(given) == 1 and not options and callable(given[0]):
            return given[0]
        return StandIn if cls is StandIn else super().__new__(cls)

    def __init__(self, *given, **options):
        pass

    def __init_subclass__(cls, **options):
        pass

    def __class_getitem__(cls, item):
        return cls


class _Module(ModuleType):
    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules with the given names, and all their submodules."""

    def __init__(self, names: set[str]):
        self.names = names

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in self.names:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return _Module(spec.name)

    def exec_module(self, module):
        module.__version__ = "0.0.0"


def provide(names=NOT_NEEDED) -> list[str]:
    """Provide stand-ins for those of `names` that are not installed, and return these, sorted.

    This imports nothing: ComfyUI has settings that must be made before PyTorch is imported.
    """
    absent = sorted(name for name in names if importlib.util.find_spec(name) is None)
    if absent:
        sys.meta_path.insert(0, _Finder(set(absent)))
    return absent
