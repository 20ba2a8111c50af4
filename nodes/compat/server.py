"""ComfyUI's server as nodes see it: who queued what, and messages to them."""

from __future__ import annotations

import sys

import comfy.cli_args as cli_args
from comfy_execution.utils import get_executing_context


def server():
    """The running server; None in tests and tools, where importing it would start half of ComfyUI."""
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)


def who_runs() -> tuple[str, str, str | None]:
    """Id of the node that is executed, of its prompt, and of the client that queued it (None: nobody listens)."""
    context, client = get_executing_context(), getattr(server(), "client_id", None)
    return ("", "", client) if context is None else (context.node_id, context.prompt_id, client)


def send(event: str, data: dict, client: str | None) -> None:
    """Tell the client that queued the prompt; without one nobody, for ComfyUI would tell everybody."""
    if client is not None:
        server().send_sync(event, data, client)


def waiting() -> int:
    """Messages to clients that are not sent yet. ComfyUI sends them one after another, so where one client is connected
    and does not read, those to all of them wait, in memory."""
    messages = getattr(server(), "messages", None)
    return 0 if messages is None else messages.qsize()


def send_text(text: str, node: str, client: str | None) -> None:
    """A line under a node while it runs, in versions that show such lines."""
    tell = getattr(server(), "send_progress_text", None)
    if tell is not None and client is not None:
        tell(text, node, client)


def routes():
    """Where routes are registered; None where no server runs, as in tests and tools."""
    return getattr(server(), "routes", None)


def cors_header() -> str | None:
    """The origin whose pages ComfyUI lets call its server, as --enable-cors-header names it; `*`: any. None without."""
    return cli_args.args.enable_cors_header
