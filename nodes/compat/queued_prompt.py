"""The whole prompt while ComfyUI checks it; `validate_inputs` itself is given one node's values.

A message of `validate_inputs` is listed once for every input that the function takes. So each node's takes one, under
which whatever is wrong with the node is said once; ComfyUI looks at the least and the most of all other numbers itself,
and newer versions at choices too. The rest comes from here.
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from comfy_execution.utils import get_executing_context

from ..validation.graph import QueuedGraph
from .server import server

OURS = "LongLive"  # what the types of this pack's nodes begin with


@dataclass(frozen=True)
class _Queued:
    """body: of the request; later handlers and ComfyUI change it in place. given: inputs of our nodes as they came."""

    body: dict[str, Any]
    given: dict[str, dict[str, Any]]


# Of the request that is being answered: ComfyUI checks a prompt in the task that received it.
_queued: ContextVar[_Queued | None] = ContextVar("longlive_queued", default=None)


def watch_prompts() -> None:
    """See every prompt before ComfyUI checks it; does nothing where no server runs."""
    running = server()
    if running is not None:
        running.add_on_prompt_handler(remember)


def remember(body: dict[str, Any]) -> dict[str, Any]:
    """Called with the request's JSON, whatever that is; it stays as it is."""
    prompt = body.get("prompt") if isinstance(body, dict) else None
    nodes = prompt.items() if isinstance(prompt, dict) else ()
    given = {
        str(node): copy.copy(entry["inputs"])
        for node, entry in nodes
        if isinstance(entry, dict)
        and str(entry.get("class_type")).startswith(OURS)
        and isinstance(entry.get("inputs"), dict)
    }
    _queued.set(_Queued(body, given) if isinstance(prompt, dict) else None)
    return body


def being_checked(kind: str) -> tuple[QueuedGraph, str] | None:
    """The prompt that is being checked, and the node whose turn it is; None where nobody knows.

    kind: the node's type.
    """
    queued, context = _queued.get(), get_executing_context()
    if queued is None or context is None:
        return None
    prompt = queued.body.get("prompt")
    if not isinstance(prompt, dict) or (prompt.get(context.node_id) or {}).get("class_type") != kind:
        return None  # of another request, which did not come through the handlers
    return QueuedGraph(
        prompt, _outputs(prompt, queued.body.get("partial_execution_targets")), queued.given
    ), context.node_id


def _outputs(prompt: dict[str, dict], targets: list[str] | None) -> list[str]:
    """The nodes for whose sake the prompt runs."""
    classes = getattr(sys.modules.get("nodes"), "NODE_CLASS_MAPPINGS", {})
    return [
        node
        for node, entry in prompt.items()
        if getattr(classes.get(entry.get("class_type")), "OUTPUT_NODE", False) and (targets is None or node in targets)
    ]


def host_validates_choices() -> bool:
    """Whether ComfyUI itself looks if a value is among a combo's choices; older versions do so for older nodes only."""
    check = getattr(sys.modules.get("execution"), "validate_inputs", None)
    return check is not None and _looks_at_choices(check)


@lru_cache(maxsize=1)
def _looks_at_choices(check: Callable) -> bool:
    return "Combo.io_type" in inspect.getsource(check)
