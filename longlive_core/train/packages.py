"""Import packages that only training needs; a missing one is reported with the command that installs it."""

from __future__ import annotations

import importlib
from types import ModuleType

INSTALL = "pip install peft pyyaml tensorboard"


def needed(name: str) -> ModuleType:
    """Import the module `name`. ValueError with the install command if it cannot be imported."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"training needs the module {name}, which cannot be imported ({error}); run: {INSTALL}"
        ) from None
