"""A take that becomes another while it is rendered: every prompt that is typed changes its plan, its keys and its name.

The store learns of a change at once, but of many in a row only now and then: writing what a long film is takes longer
than typing does, and rendering waits for it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable

from ..timeline import Plan
from .errors import TakeError
from .live import Live
from .take import Take, changed_take, named

log = logging.getLogger(__name__)

SHARE = 0.02  # of a render's time that changes may take


class Seldom:
    """Whether something that takes a while may be done again: it has at most SHARE of the time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._again = clock, clock()

    @property
    def due(self) -> bool:
        return self._clock() >= self._again

    @contextlib.contextmanager
    def measured(self):
        began = self._clock()
        yield
        ended = self._clock()
        self._again = ended + (ended - began) / SHARE


class Changes:
    """The takes that a render's take becomes.

    Attributes:
        take: as it is now. Its plan, shots and keys are always those of the newest plan; its manifest and id are those
            that the store knows, until `write`.
    """

    def __init__(self, started: Take, live: Live, on_take: Callable[[Take], None], seldom: Seldom | None = None):
        self.take = self._written = self._started = started
        self._live, self._on_take, self._seldom = live, on_take, seldom or Seldom()
        self._lock = contextlib.ExitStack()  # of a take that the first one became
        live.became(started.id)

    def follow(self, plan: Plan | None = None) -> None:
        """Before a chunk: go on with this plan, of which the chunks so far are the beginning too; None: as before."""
        if plan is not None:
            self.take = changed_take(self.take, plan)
        if self._seldom.due:
            self.write()

    def write(self) -> None:
        """Let the store know what the take is now, if it does not yet."""
        if self.take is self._written:
            return
        with self._seldom.measured():
            before, self.take = self._written, named(self.take)
            self._written = self.take
            self.take.store.write_manifest(self.take.manifest)
            self._lock.close()
            if self.take.id != self._started.id:
                self._lock.enter_context(self.take.store.rendering(self.take.id))
            if before is not self._started:
                self._forget(before)
        self._live.became(self.take.id)
        self._on_take(self.take)

    def close(self) -> None:
        """Let go of the take that is left, which is another's to render from here on."""
        self._lock.close()

    def forget_first(self) -> None:
        self._forget(self._started)

    def _forget(self, take: Take) -> None:
        """Remove a take that this render made and that became another, which has all its chunks."""
        if take.new and take.id != self.take.id:
            try:
                take.store.forget(take.id)
            except TakeError as error:  # somebody else has begun to render it, or a player shows it
                log.warning("take %s, which became %s, stays: %s", take.id, self.take.id, error)
