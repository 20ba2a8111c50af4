"""A take that becomes another while it is rendered: every prompt that is typed changes its plan, its keys and its name.

The store learns of a change at once, but of many in a row only now and then: writing what a long film is takes longer
than typing does, and rendering waits for it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable

from ..timeline import Plan
from .errors import TakeError
from .live import Live
from .locks import TakeLock
from .take import Take, changed_take, named

log = logging.getLogger(__name__)

SHARE = 0.02  # of a render's time that changes may take


class Throttle:
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


class TakeVersions:
    """The takes that a render's take becomes.

    Attributes:
        take: as it is now. Its plan, shots and keys are always those of the newest plan; its manifest and id are those
            that the store knows, until `write`.
    """

    def __init__(self, started: Take, live: Live, on_take: Callable[[Take], None], seldom: Throttle | None = None):
        self.take = self._written = self._started = started
        self._live, self._on_take, self._seldom = live, on_take, seldom or Throttle()
        self._locks: dict[str, TakeLock] = {}  # by take: of the first one, and of what it became
        live.became(started.id)

    def __enter__(self) -> TakeVersions:
        """Lock the take for this process. TakeError where another one renders it."""
        self._lock(self._started)
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the takes, which are another's to render from here on."""
        self._unlock(self._locks)

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
            self._lock(self.take)
            self._unlock(set(self._locks) - {self._started.id, self.take.id})
            if before is not self._started:
                self._forget(before)
        self._live.became(self.take.id)
        self._on_take(self.take)

    def keep_listed(self) -> list[str]:
        """Write the manifests again that somebody removed, with their folders or without. -> those takes' ids."""
        written = []
        for take in {take.id: take for take in (self._started, self._written)}.values():
            if not take.store.has_manifest(take.id):
                take.store.write_manifest(take.manifest)
                written.append(take.id)
            self._locks[take.id].renew()
        return written

    def forget_first(self) -> None:
        """Once it is let go of."""
        self._forget(self._started)

    def _lock(self, take: Take) -> None:
        if take.id not in self._locks:
            lock = take.store.rendering(take.id)
            lock.acquire()
            self._locks[take.id] = lock

    def _unlock(self, takes: Iterable[str]) -> None:
        for take in list(takes):
            self._locks.pop(take).release()

    def _forget(self, take: Take) -> None:
        """Remove a take that this render made and that became another, which has all its chunks."""
        if take.new and take.id != self.take.id:
            try:
                take.store.forget(take.id)
            except TakeError as error:  # somebody else has begun to render it, or a player shows it
                log.warning("take %s, which became %s, stays: %s", take.id, self.take.id, error)
