"""The versions of a take while it is rendered: every typed prompt changes its plan, its keys and its id.

A single change is written to the store at once, but many in a row are written less often: writing the manifest of a
long film takes longer than typing, and rendering waits for it.
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

SHARE = 0.02  # the share of a render's time that writing changes may take


class Throttle:
    """Limits a slow operation to SHARE of the time."""

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
    """The versions that one take has during its render.

    Attributes:
        take: the current version. Its plan, shots and keys are always those of the newest plan; its manifest and id are
            those in the store, until `write`.
    """

    def __init__(self, started: Take, live: Live, on_take: Callable[[Take], None], seldom: Throttle | None = None):
        self.take = self._written = self._started = started
        self._live, self._on_take, self._seldom = live, on_take, seldom or Throttle()
        self._locks: dict[str, TakeLock] = {}  # by take id: of the first version and of the current one
        live.became(started.id)

    def __enter__(self) -> TakeVersions:
        """Lock the take for this process. TakeError if another process renders it."""
        self._lock(self._started)
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def close(self) -> None:
        """Release the locks: from here on other processes may render the takes."""
        self._unlock(self._locks)

    def follow(self, plan: Plan | None = None) -> None:
        """Continue with this plan before a chunk. The plan begins with the chunks so far; None: it is unchanged."""
        if plan is not None:
            self.take = changed_take(self.take, plan)
        if self._seldom.due:
            self.write()

    def write(self) -> None:
        """Write the current version to the store, unless it is there already."""
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
        """Write removed manifests again, with or without their folders; return the ids of those takes."""
        written = []
        for take in {take.id: take for take in (self._started, self._written)}.values():
            if not take.store.has_manifest(take.id):
                take.store.write_manifest(take.manifest)
                written.append(take.id)
            self._locks[take.id].renew()
        return written

    def forget_first(self) -> None:
        """Remove the first version, after its lock was released."""
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
        """Remove a version that this render created and that was replaced by one with all its chunks."""
        if take.new and take.id != self.take.id:
            try:
                take.store.forget(take.id)
            except TakeError as error:  # another process has begun to render it, or a player shows it
                log.warning("take %s, which became %s, stays: %s", take.id, self.take.id, error)
