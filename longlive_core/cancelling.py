"""Cancellation: the core checks for it wherever it may be busy for more than a second.

The host provides the check:

    with cancelled_by(host.throw_if_interrupted):
        plan_take(...)

It is a context variable of the running thread, so no function has to pass it on. Without a host nothing is checked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import TypeVar

Item = TypeVar("Item")

_check: ContextVar[Callable[[], None] | None] = ContextVar("longlive_cancelled", default=None)


@contextlib.contextmanager
def cancelled_by(check: Callable[[], None]) -> Iterator[None]:
    """Call `check` now and then while the block runs; an exception that it raises ends the work."""
    before = _check.set(check)
    try:
        yield
    finally:
        _check.reset(before)


def check_cancelled() -> None:
    """Raise the host's exception if the run was cancelled."""
    check = _check.get()
    if check is not None:
        check()


def cancellable(items: Iterable[Item], every: int = 1) -> Iterator[Item]:
    """Yield the items, and check for cancellation before each `every`th of them."""
    for index, item in enumerate(items):
        if index % every == 0:
            check_cancelled()
        yield item
