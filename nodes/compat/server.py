"""ComfyUI's server as nodes see it: who queued the prompt, messages to that client, routes."""

from __future__ import annotations

import sys

import comfy.cli_args as cli_args
from comfy_execution.utils import get_executing_context


def server():
    """Return the running server; None in tests and tools, where importing it would load half of ComfyUI."""
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)


def who_runs() -> tuple[str, str, str | None]:
    """Return the ids of the executing node, its prompt, and the client that queued it (None: no client listens)."""
    context, client = get_executing_context(), getattr(server(), "client_id", None)
    return ("", "", client) if context is None else (context.node_id, context.prompt_id, client)


def send(event: str, data: dict, client: str | None) -> None:
    """Send an event to the client that queued the prompt; without a client do nothing, or ComfyUI would send it to
    all."""
    if client is not None:
        server().send_sync(event, data, client)


def waiting() -> int:
    """Return the number of unsent messages. ComfyUI sends them one after another, so one connected client that does not
    read keeps the messages to all clients waiting, in memory."""
    messages = getattr(server(), "messages", None)
    return 0 if messages is None else messages.qsize()


def send_text(text: str, node: str, client: str | None) -> None:
    """Show a line under a running node, in versions that support it."""
    send_line = getattr(server(), "send_progress_text", None)
    if send_line is not None and client is not None:
        send_line(text, node, client)


def routes():
    """Return the server's route table; None without a server, as in tests and tools."""
    return getattr(server(), "routes", None)


def cors_header() -> str | None:
    """Return the origin in ComfyUI's flag --enable-cors-header, whose pages may call its server; `*`: any; None:
    unset."""
    return cli_args.args.enable_cors_header
