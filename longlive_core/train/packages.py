"""Packages that only training needs; what is missing is told with the command that installs it."""

from __future__ import annotations

import importlib
from types import ModuleType

INSTALL = "pip install peft pyyaml tensorboard"


def needed(name: str) -> ModuleType:
    """The module `name`. ValueError, with what to do, where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"training needs the package of the module {name}, which cannot be imported ({error}): {INSTALL}"
        ) from None
