"""Whether somebody wants what is running to stop: asked wherever the core may be busy for more than a second.

A host says how to find out, and the core asks:

    with cancelled_by(host.throw_if_interrupted):
        plan_take(...)

Nobody passes it along: it belongs to the run, as the thread does. Without a host nothing is asked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import TypeVar

Item = TypeVar("Item")

_ask: ContextVar[Callable[[], None] | None] = ContextVar("longlive_cancelled", default=None)


@contextlib.contextmanager
def cancelled_by(ask: Callable[[], None]) -> Iterator[None]:
    """While the block runs, `ask` is called now and then; what it raises ends the work."""
    before = _ask.set(ask)
    try:
        yield
    finally:
        _ask.reset(before)


def check_cancelled() -> None:
    """Raise what the host raises for a run that is to end."""
    ask = _ask.get()
    if ask is not None:
        ask()


def cancellable(items: Iterable[Item], every: int = 1) -> Iterator[Item]:
    """The same items; asked before each `every`th of them."""
    for index, item in enumerate(items):
        if index % every == 0:
            check_cancelled()
        yield item
