"""Rendering a take: chunk by chunk, computing only what is missing, under a plan that may change during the render."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..device.placement import Offloader
from ..engine.noise import AddressedNoise
from ..engine.prompts import ContextOf, prompt_spans
from ..engine.rollout import Rollout, check_run
from ..files import in_use
from ..film.decoding import ShotDecoder
from ..film.video import FilmInUse, Joiner, encode_unit
from ..model import CausalWan
from ..vae import StreamingDecoder
from ..words.wording import count
from .chunks import StoredLatents
from .disk import writing
from .errors import ChunkDamaged, TakeError
from .limit import SpaceLimit
from .live import Live
from .manifest import GROWING
from .observer import Observer
from .take import Take
from .versions import TakeVersions

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Metadata = Callable[[Take], Mapping[str, str] | None]


def render_take(
    take: Take,
    model: CausalWan,
    decoder: StreamingDecoder,
    context_of: ContextOf,
    metadata: Metadata,
    observer: Observer | None = None,
    live: Live | None = None,
    offloader: Offloader | None = None,
) -> Take:
    """Render the missing chunks of a take. Return it, or the take that it became if `live` changed its plan.

    Args:
        context_of: the embedding [1, tokens, text_dim] of a prompt; called only for what has to be rendered.
        metadata: the tags of a take's film; None: its file has neither tags nor subtitles.
        observer: follows the render and may stop it.
        live: changes of the plan, and progress.
        offloader: moves parts to main memory while they are not in use, created over `decoder`; by default none.

    A stored file that is damaged, or that another process removes, is rendered again, see `Live.progress`. If the
    store's limit leaves no space for another chunk, the film ends, as `Live.finish` ends it. If the render ends early,
    also by an exception of the observer, the chunks so far are a playable film; then the exception is raised again.
    TakeError if another process renders the same take, or the store takes no more.
    """
    rendering = _Rendering(
        take,
        model,
        decoder,
        context_of,
        metadata,
        observer or Observer(),
        live or Live(take.plan),
        offloader or Offloader(decoder=decoder),
    )
    return rendering.run()


class _Rendering:
    def __init__(self, take, model, decoder, context_of, metadata, observer, live, offloader):
        width, height = take.origin.size
        check_run(model, (height // 8, width // 8), take.origin.stream, take.plan.longest_shot)
        self.started = take
        self.model, self.decoder, self.context_of, self.metadata = model, decoder, context_of, metadata
        self.observer, self.live, self.offloader = observer, live, offloader
        self.versions, self.limit = TakeVersions(take, live, observer.changed), SpaceLimit(take, observer.report)
        self.growing: Joiner | None = None
        self.prepared = False
        self.repaired: set[tuple[int, str | None]] = set()  # chunks, and the unit or None for their latents
        self.rollout: Rollout | None = None
        self.decoding: ShotDecoder | None = None

    @property
    def take(self) -> Take:
        """The current version of the take that was begun."""
        return self.versions.take

    def run(self) -> Take:
        started = self.started
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.versions)
            stack.callback(self.live.close)
            if started.film_path.is_dir():  # reported before hours of rendering
                raise TakeError(f"'{started.film_path}' is a folder where the take's film belongs; remove it")
            self._join_before()
            started.store.tidy(started.id)
            started.growing_name = _free_name(started)
            self._begin_growing()
            try:
                self._render_all()
                self._restore_removed()
            except BaseException:
                with contextlib.suppress(ValueError):  # a full disk refuses the film too; report the first error
                    self._leave_film()
                raise
            self._leave_film()
        self.versions.forget_first()
        return self.take

    def _join_before(self) -> None:
        """Write the film of what is stored, before the growing film starts again from its first frame."""
        damaged: list[ChunkDamaged] = []
        try:
            if self.started.has_film:
                with writing(self.started.film_path), contextlib.suppress(FilmInUse):
                    self._join(self.started, damaged.append)
        except ValueError:
            if not damaged:  # otherwise nothing was stored before the damage
                raise
        for damage in damaged:
            self._repair(damage)  # it counts as missing from now on, and is rendered when its turn comes

    def _begin_growing(self) -> None:
        with writing(self.started.growing_path):
            self.growing = Joiner(self.started.growing_path, self.metadata(self.started), growing=True)

    def _leave_film(self) -> None:
        """Replace the growing film by an ordinary one; keep the growing one if that cannot be written.

        A player that has the old or the growing film open does not turn a finished film into an error (Windows).
        """
        self.versions.write()
        with writing(self.take.film_path):
            self.growing.close()
            self._keep_listed()
            if self.growing.frames:
                try:
                    self._join(self.take)
                except FilmInUse as error:
                    log.warning("%s; it gets that name when its take is rendered again", error)
            if not in_use.remove(self.started.growing_path):
                log.warning(
                    "the film is finished, but '%s' is in use by another program and stays; it is removed "
                    "when that take is rendered again",
                    self.started.growing_path,
                )

    def _join(self, take: Take, damaged: Callable[[ChunkDamaged], None] | None = None) -> None:
        """Write the film of what is stored; it replaces earlier ones."""
        for spare in in_use.spares_of(take.film_path):
            in_use.remove(spare)
        tags = self.metadata(take)
        take.join(take.film_path, tags, tags is not None, damaged)

    @torch.inference_mode()
    def _render_all(self) -> None:
        plan = self.take.plan
        for chunk in itertools.count():
            self._keep_whole(chunk)
            self._keep_to_limit(chunk)
            plan, before = self.live.plan_for(chunk), plan
            if plan is None:
                if self.live.endless and 0 < chunk != before.chunks:
                    self.versions.follow(before.resized(chunk))
                return
            self.versions.follow(None if plan is before else plan)
            rendered, frames, unit = self._repairing(self._complete, chunk)
            with writing(self.started.growing_path):
                self.growing.add(unit)
            self.limit.add(self.take, chunk, rendered, frames is not None)
            self.live.done(self.take.frames_of(chunk), rendered)
            self.observer.chunk(chunk, frames)

    def _keep_to_limit(self, chunk: int) -> None:
        """End the film before a chunk that does not fit in the store even after other takes were removed."""
        over = chunk >= self.take.plan.chunks and not self.live.endless
        if chunk and not over and not self.limit.fits(self.take, chunk, self.live.endless):
            reason = self.limit.reason(self.take)
            log.warning("the film ends after %s: %s", count(chunk, "chunk"), reason)
            self.live.end(reason)

    # --- files that other processes remove during the render

    def _keep_whole(self, chunks: int) -> None:
        """Ensure, before a chunk, that the take is listed and locked, and that its growing film has `chunks` chunks."""
        self._keep_listed()
        if chunks and not self.started.growing_path.exists():
            with contextlib.suppress(ValueError, OSError):  # the one that was removed
                self.growing.close()
            self._begin_growing()
            for chunk in range(chunks):
                rendered, frames, unit = self._repairing(self._complete, chunk)
                self.growing.add(unit)
                if frames is not None:
                    self.live.repaired(chunk, rendered)

    def _keep_listed(self) -> None:
        for take in self.versions.keep_listed():
            self._note(f"take {take} was removed while it was rendered; it was written again")

    def _restore_removed(self) -> None:
        """Render chunks again that were removed since they were rendered."""
        store = self.take.store
        for chunk in range(self.live.progress.chunk):
            facts = self.take.unit_of(chunk)
            has_latents = store.has_latents(facts.key)
            if not (has_latents and store.has_unit(facts.key, facts.unit)):
                log.warning("chunk %d was removed while its film was rendered; it is rendered again", chunk)
                self._repairing(self._complete, chunk)
                self.live.repaired(chunk, not has_latents)

    def _note(self, text: str) -> None:
        log.warning("%s", text)
        self.live.note(text)

    # --- one chunk

    def _complete(self, chunk: int) -> tuple[bool, np.ndarray | None, bytes]:
        """Store what is missing of a chunk. Return whether it was rendered, its frames if decoded, its unit."""
        store, facts = self.take.store, self.take.unit_of(chunk)
        rendered = self._render(chunk)
        if store.has_unit(facts.key, facts.unit):
            frames, unit = None, store.chunks.load_unit(facts)
        else:
            frames = self._decode(chunk)
            unit = store.chunks.save_unit(facts, encode_unit(frames, self.take.encoding))
        if rendered or frames is not None:
            store.sync(facts.key)  # before it is reported as done
        return rendered, frames, unit

    def _render(self, chunk: int) -> bool:
        """Render and store a chunk's latents unless they are stored; return whether they were rendered."""
        store, key = self.take.store, self.take.unit_of(chunk).key
        if store.has_latents(key):
            return False
        self._refuse_start_chunk(chunk)
        store.save_latents(key, self._latents(chunk).to(self.model.dtype))
        return True

    def _repairing(self, make: Callable[[int], Result], chunk: int) -> Result:
        """Return `make(chunk)`; repair chunks that turn out to be damaged, whose files were set aside."""
        while True:
            try:
                return make(chunk)
            except ChunkDamaged as damage:
                self._repair(damage)

    def _repair(self, damage: ChunkDamaged) -> None:
        chunk = self.take.keys.index(damage.key)
        log.warning("chunk %d: %s", chunk, damage)
        if not damage.aside:
            raise damage
        if (chunk, damage.unit) in self.repaired:
            raise TakeError(
                f"{damage}. It was damaged again after it was rendered anew: check the disk and the memory of "
                "this machine"
            ) from damage
        self.repaired.add((chunk, damage.unit))
        if damage.unit is None:
            self._refuse_start_chunk(chunk)
            self.rollout = self.decoding = None  # their state is unknown: reading stopped in the middle
            self._repairing(self._render, chunk)
            self.take.store.sync(damage.key)
        self.live.repaired(chunk, damage.unit is None)

    def _refuse_start_chunk(self, chunk: int) -> None:
        """Raise TakeError for a start chunk, which this run cannot render."""
        if chunk < self.take.manifest.given:
            raise TakeError(
                f"start chunk {chunk} of this film was damaged or removed: render the take that it comes "
                "from again, or start from the picture or clip again"
            )

    def _latents(self, chunk: int) -> Tensor:
        self._ready()
        take, plan = self.take, self.take.plan
        noise = AddressedNoise(take.origin.seed)
        if self.rollout is None or self.rollout.index != chunk:
            width, height = take.origin.size
            longest = plan.chunks if take.origin.stream.window == -1 else plan.longest_shot
            past = [prompt for prompt in plan.prompts if prompt.start_chunk <= chunk]
            spans = prompt_spans(past, self.context_of)  # encode before the cache exists: both may not fit
            self.rollout = self.offloader.cache = None  # free the old cache before the new one is allocated
            self.rollout = Rollout(
                self.model,
                take.origin.stream,
                (height // 8, width // 8),
                noise,
                longest * plan.chunk,
                self.observer.step,
                offloader=self.offloader,
            )
            if chunk:
                self.rollout.resume(spans, self._stored(take.keys[:chunk]))
        change = [prompt for prompt in plan.prompts if prompt.start_chunk == chunk]
        return self.rollout.next_chunk(*prompt_spans(change, self.context_of)).latents

    def _decode(self, chunk: int) -> np.ndarray:
        self._ready()
        shot = self.take.shot_of(chunk)
        if self.decoding is None or self.decoding.start != shot.start:
            self.decoding = ShotDecoder(self.decoder, shot.start)
        self.offloader.before_decoding()
        return self.decoding.frames(self._stored(shot.keys), chunk - shot.start)

    def _ready(self) -> None:
        if not self.prepared:
            self.prepared = True
            self.observer.prepare()

    def _stored(self, keys: Sequence[str]) -> StoredLatents:
        return StoredLatents(self.take.store.chunks, keys, self.take.manifest.latent_shape)


def _free_name(take: Take) -> str:
    """Return the growing film's name, a spare one if a player has the last one open; remove the other old ones."""
    path = take.store.take_folder(take.id) / GROWING
    free = [name.name for name in (path, *in_use.spare_names(path)) if in_use.remove(name)]
    return free[0] if free else GROWING
