"""Give nodes the whole queued prompt while ComfyUI validates it; `validate_inputs` receives one node's values only.

ComfyUI lists a message of `validate_inputs` once for every argument of the function. So each of our nodes takes one
argument, and any error of the node is reported once, under that input. ComfyUI itself checks minimum and maximum of all
other numbers, and newer versions check choices too. All other checks use the prompt from here.
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

OURS = "LongLive"  # prefix of this pack's node types


@dataclass(frozen=True)
class _Queued:
    """A request. body: later handlers and ComfyUI change it in place. given: our nodes' inputs as the client sent
    them."""

    body: dict[str, Any]
    given: dict[str, dict[str, Any]]


# The current request: ComfyUI validates a prompt in the task that received it.
_queued: ContextVar[_Queued | None] = ContextVar("longlive_queued", default=None)


def watch_prompts() -> None:
    """Register a handler that sees every prompt before ComfyUI validates it. Without a server, do nothing."""
    running = server()
    if running is not None:
        running.add_on_prompt_handler(remember)


def remember(body: dict[str, Any]) -> dict[str, Any]:
    """Keep the request's JSON, which may be any value, and return it unchanged."""
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


def prompt_being_validated(kind: str) -> tuple[QueuedGraph, str] | None:
    """Return the prompt being validated and the current node; None if they are unknown.

    kind: the node's type.
    """
    queued, context = _queued.get(), get_executing_context()
    if queued is None or context is None:
        return None
    prompt = queued.body.get("prompt")
    if not isinstance(prompt, dict) or (prompt.get(context.node_id) or {}).get("class_type") != kind:
        return None  # another request, which did not pass the handlers
    return QueuedGraph(
        prompt, _outputs(prompt, queued.body.get("partial_execution_targets")), queued.given
    ), context.node_id


def _outputs(prompt: dict[str, dict], targets: list[str] | None) -> list[str]:
    """Return the output nodes for which the prompt runs."""
    classes = getattr(sys.modules.get("nodes"), "NODE_CLASS_MAPPINGS", {})
    return [
        node
        for node, entry in prompt.items()
        if getattr(classes.get(entry.get("class_type")), "OUTPUT_NODE", False) and (targets is None or node in targets)
    ]


def host_validates_choices() -> bool:
    """Return whether ComfyUI itself validates a combo's choices; older versions do so for V1 nodes only."""
    check = getattr(sys.modules.get("execution"), "validate_inputs", None)
    return check is not None and _validates_choices(check)


@lru_cache(maxsize=1)
def _validates_choices(check: Callable) -> bool:
    return "Combo.io_type" in inspect.getsource(check)
