"""Declare nodes and inputs with the arguments that the running version of ComfyUI knows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

from comfy_api.latest import io

# Arguments that not every version has. Without them a node still works.
NEWER_ARGUMENTS = {
    "advanced",  # 0.10: a widget that is folded away
    "search_aliases",  # 0.11: other words by which a node is found
    "disable_dynamic",  # 0.12: all weights at once
    "has_intermediate_output",  # 0.19: reports outlive a reload of the page
}


def supported(function: Callable, **arguments):
    """Call with the arguments given, but for those of NEWER_ARGUMENTS that this version of ComfyUI does not know."""
    known = inspect.signature(function).parameters
    takes_all = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values())
    unknown = set() if takes_all else NEWER_ARGUMENTS - set(known)
    return function(**{name: value for name, value in arguments.items() if name not in unknown})


def schema(**arguments) -> io.Schema:
    return supported(io.Schema, **arguments)


def widget(kind, name: str, **arguments) -> io.Input:
    """An input such as `widget(io.Int, "steps", default=4, advanced=True)`."""
    return supported(kind.Input, id=name, **arguments)


def seed_widget(name: str, **arguments) -> io.Input:
    """A seed that stays as it is after a run, so that queueing again goes on with the same film.

    Browsers of versions without that enumeration take True only, and begin at `randomize`: web/seed.js sets it there.
    """
    control = getattr(io, "ControlAfterGenerate", None)
    return widget(io.Int, name, control_after_generate=True if control is None else control.fixed, **arguments)


def refuse_removed(inputs: Mapping[str, object]) -> None:
    """Raise ValueError for connections to inputs that a node does not have; ComfyUI hands them over all the same."""
    if inputs:
        raise ValueError(
            f"this version of the node has no input {' and no input '.join(inputs)}: the workflow was "
            "saved by another version; remove the connection, or add the node anew"
        )


def refuse_missing(**inputs) -> None:
    """Raise ValueError for a MODEL, VAE or CLIP that is None: a loader found none in its file."""
    missing = [name for name, value in inputs.items() if value is None]
    if missing:
        raise ValueError(
            f"there is no {' and no '.join(missing)}: the loader that is connected found none in its "
            "file; connect another loader, such as Load LongLive"
        )
