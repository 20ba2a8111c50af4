"""Declare nodes and inputs with the arguments that the running version of ComfyUI knows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

from comfy_api.latest import io

# Arguments that only newer versions have. Nodes work without them.
NEWER_ARGUMENTS = {
    "advanced",  # 0.10: a widget that is hidden at first
    "search_aliases",  # 0.11: more search words for a node
    "disable_dynamic",  # 0.12: load all weights at once
    "has_intermediate_output",  # 0.19: reports survive a reload of the page
}


def supported(function: Callable, **arguments):
    """Call `function` without those of NEWER_ARGUMENTS that this version of ComfyUI does not know."""
    known = inspect.signature(function).parameters
    takes_all = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values())
    unknown = set() if takes_all else NEWER_ARGUMENTS - set(known)
    return function(**{name: value for name, value in arguments.items() if name not in unknown})


def schema(**arguments) -> io.Schema:
    return supported(io.Schema, **arguments)


def widget(kind, name: str, **arguments) -> io.Input:
    """Return an input, such as `widget(io.Int, "steps", default=4, advanced=True)`."""
    return supported(kind.Input, id=name, **arguments)


def seed_widget(name: str, **arguments) -> io.Input:
    """Return a seed widget that keeps its value after a run, so that queueing again continues the same film.

    Front ends of versions without that enumeration accept only True and begin at `randomize`; web/seed.js changes it.
    """
    control = getattr(io, "ControlAfterGenerate", None)
    return widget(io.Int, name, control_after_generate=True if control is None else control.fixed, **arguments)


def refuse_removed(inputs: Mapping[str, object]) -> None:
    """Raise ValueError for links to inputs that the node does not have; ComfyUI passes them on anyway."""
    if inputs:
        raise ValueError(
            f"this version of the node has no input {' and no input '.join(inputs)}: the workflow was "
            "saved with another version; remove the connection, or add the node again"
        )


def refuse_missing(**inputs) -> None:
    """Raise ValueError for a MODEL, VAE or CLIP that is None: the loader found none in its file."""
    missing = [name for name, value in inputs.items() if value is None]
    if missing:
        raise ValueError(
            f"there is no {' and no '.join(missing)}: the connected loader found none in its "
            "file; connect another loader, such as Load LongLive"
        )
