"""Rendering a take: chunk after chunk, making what is missing, under a plan that may change on the way."""

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
from .observer import Observer
from .room import GROWING
from .take import Take
from .versions import TakeVersions

log = logging.getLogger(__name__)

Made = TypeVar("Made")
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
        offloader: what rests in main memory in between, made over `decoder`; by default nothing.

    A stored file that is damaged, or that another process removes, is rendered again, see `Live.progress`. If the
    store's limit leaves no space for another chunk, the film ends, as `Live.finish` ends it. Whatever ends this early,
    an exception from the observer included, leaves a playable film of the chunks so far; then the exception continues.
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
        """What the one that was begun is by now."""
        return self.versions.take

    def run(self) -> Take:
        started = self.started
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.versions)
            stack.callback(self.live.close)
            if started.film_path.is_dir():  # told before the hours of rendering
                raise TakeError(f"'{started.film_path}' is a folder, in the place of the take's film; remove it")
            self._join_before()
            started.store.tidy(started.id)
            started.growing_name = _free_name(started)
            self._begin_growing()
            try:
                self._make_all()
                self._make_lost()
            except BaseException:
                with contextlib.suppress(ValueError):  # a full disk takes no film; what led here is the error to report
                    self._leave_film()
                raise
            self._leave_film()
        self.versions.forget_first()
        return self.take

    def _join_before(self) -> None:
        """The film of what was there, before the growing one begins again from its first frame."""
        damaged: list[ChunkDamaged] = []
        try:
            if self.started.has_film:
                with writing(self.started.film_path), contextlib.suppress(FilmInUse):
                    self._join(self.started, damaged.append)
        except ValueError:
            if not damaged:  # else there was nothing before it
                raise
        for damage in damaged:
            self._repair(damage)  # which is that it is missing now, and made in its turn

    def _begin_growing(self) -> None:
        with writing(self.started.growing_path):
            self.growing = Joiner(self.started.growing_path, self.metadata(self.started), growing=True)

    def _leave_film(self) -> None:
        """An ordinary film in the growing one's place, which stays where that cannot be written.

        A player that holds the old film, or the growing one, does not make an error of a finished film (Windows).
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
        """The film of what is there, in the place of those before it."""
        for spare in in_use.spares_of(take.film_path):
            in_use.remove(spare)
        tags = self.metadata(take)
        take.join(take.film_path, tags, tags is not None, damaged)

    @torch.inference_mode()
    def _make_all(self) -> None:
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
            rendered, frames, unit = self._remaking(self._make, chunk)
            with writing(self.started.growing_path):
                self.growing.add(unit)
            self.limit.made(self.take, chunk, rendered, frames is not None)
            self.live.done(self.take.frames_of(chunk), rendered)
            self.observer.chunk(chunk, frames)

    def _keep_to_limit(self, chunk: int) -> None:
        """End the film before a chunk for which the store has no room, though other takes went."""
        over = chunk >= self.take.plan.chunks and not self.live.endless
        if chunk and not over and not self.limit.fits(self.take, chunk, self.live.endless):
            reason = self.limit.reason(self.take)
            log.warning("the film ends after %s: %s", count(chunk, "chunk"), reason)
            self.live.end(reason)

    # --- what somebody removes meanwhile

    def _keep_whole(self, chunks: int) -> None:
        """Before a chunk is made: the take is listed and locked, and its film of so many chunks grows."""
        self._keep_listed()
        if chunks and not self.started.growing_path.exists():
            with contextlib.suppress(ValueError, OSError):  # of the one that nobody sees any more
                self.growing.close()
            self._begin_growing()
            for chunk in range(chunks):
                rendered, frames, unit = self._remaking(self._make, chunk)
                self.growing.add(unit)
                if frames is not None:
                    self.live.repaired(chunk, rendered)

    def _keep_listed(self) -> None:
        for take in self.versions.keep_listed():
            self._note(f"take {take} was removed while it was rendered; it was written again")

    def _make_lost(self) -> None:
        """Make the chunks again that somebody removed since they were made."""
        store = self.take.store
        for chunk in range(self.live.progress.chunk):
            facts = self.take.unit_of(chunk)
            there = store.has_latents(facts.key)
            if not (there and store.has_unit(facts.key, facts.unit)):
                log.warning("chunk %d was removed while its film was rendered; it is made again", chunk)
                self._remaking(self._make, chunk)
                self.live.repaired(chunk, not there)

    def _note(self, text: str) -> None:
        log.warning("%s", text)
        self.live.note(text)

    # --- one chunk

    def _make(self, chunk: int) -> tuple[bool, np.ndarray | None, bytes]:
        """Store what is missing of a chunk. -> whether it was rendered, frames where they were decoded, its unit."""
        store, facts = self.take.store, self.take.unit_of(chunk)
        rendered = self._render(chunk)
        if store.has_unit(facts.key, facts.unit):
            frames, unit = None, store.chunks.load_unit(facts)
        else:
            frames = self._decode(chunk)
            unit = store.chunks.save_unit(facts, encode_unit(frames, self.take.encoding))
        if rendered or frames is not None:
            store.settle(facts.key)  # before anybody is told that it is done
        return rendered, frames, unit

    def _render(self, chunk: int) -> bool:
        """Store a chunk's latents, unless they are there; returns whether they were not."""
        store, key = self.take.store, self.take.unit_of(chunk).key
        if store.has_latents(key):
            return False
        self._refuse_given(chunk)
        store.save_latents(key, self._latents(chunk).to(self.model.dtype))
        return True

    def _remaking(self, make: Callable[[int], Made], chunk: int) -> Made:
        """What `make` returns of a chunk. What turns out to be damaged on the way was set aside, and is made again."""
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
                f"{damage}. It was damaged again after it was made anew: look at the disk, and at the "
                "memory, of this machine"
            ) from damage
        self.repaired.add((chunk, damage.unit))
        if damage.unit is None:
            self._refuse_given(chunk)
            self.rollout = self.decoding = None  # stopped in the middle of reading
            self._remaking(self._render, chunk)
            self.take.store.settle(damage.key)
        self.live.repaired(chunk, damage.unit is None)

    def _refuse_given(self, chunk: int) -> None:
        """TakeError for one that this run cannot make."""
        if chunk < self.take.manifest.given:
            raise TakeError(
                f"chunk {chunk}, with which this film begins, was damaged or removed: render the take that "
                "it comes from again, or begin with the picture or clip again"
            )

    def _latents(self, chunk: int) -> Tensor:
        self._ready()
        take, plan = self.take, self.take.plan
        noise = AddressedNoise(take.origin.seed)
        if self.rollout is None or self.rollout.index != chunk:
            width, height = take.origin.size
            longest = plan.chunks if take.origin.stream.window == -1 else plan.longest_shot
            past = [prompt for prompt in plan.prompts if prompt.start_chunk <= chunk]
            spans = prompt_spans(past, self.context_of)  # before there is a cache that the encoder lies beside
            self.rollout = self.offloader.cache = None  # the old cache goes before there is a new one: two may not fit
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
    """The growing film's name: a spare one where a player still holds that of the last render. Removes the others."""
    path = take.store.take_folder(take.id) / GROWING
    free = [name.name for name in (path, *in_use.spare_names(path)) if in_use.remove(name)]
    return free[0] if free else GROWING
