"""One run of the sampler: a take is rendered or gone on with, watched, steered, and handed on as a file."""

from __future__ import annotations

import logging
import os
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import comfy.utils
import folder_paths
import numpy as np
from PIL import Image
from torch import Tensor

from ..longlive_core.cancelling import cancellable
from ..longlive_core.config import ModelConfig, StreamConfig
from ..longlive_core.device.placement import Offloader
from ..longlive_core.engine.prompts import PromptEmbeddings
from ..longlive_core.film.tags import film_metadata, with_given
from ..longlive_core.film.video import Encoding, check_writable
from ..longlive_core.run import reports
from ..longlive_core.run.estimate import estimate_film, make_room
from ..longlive_core.run.memory import estimate
from ..longlive_core.run.speed import SpeedBook, SpeedRecorder
from ..longlive_core.takes import (
    Live,
    Observer,
    Take,
    extended,
    plan_take,
    reason_for,
    render_take,
    reuse,
    store_start_latents,
)
from ..longlive_core.timeline import check_first, plan_text
from . import compat
from .compat.forward import sampling
from .compat.identity import film_origin, vae_identity
from .compat.patches import effects
from .handles import TakeHandle
from .routes.live import showing
from .starts import Start
from .stores import film_file, open_store
from .timeline import Timeline

log = logging.getLogger(__name__)

PREVIEW_SIZE = 512  # pixels, the longer side
MOST_PICTURES, MOST_MESSAGES = 32, 1000  # that may wait for clients; a picture is as large as the film's


@dataclass(frozen=True)
class Filmed:
    """What a run left. path: the film, in ComfyUI's temporary folder. as_asked: whether the inputs ask for it."""

    path: str
    report: dict[str, Any]
    take: TakeHandle
    as_asked: bool


class Filming:
    """Renders one film; everything is checked before anything is computed.

    Args:
        size: (width, height) in pixels.
        start: what the film begins with.
    """

    def __init__(
        self,
        model,
        vae,
        timeline: Timeline,
        stream: StreamConfig,
        seed: int,
        size: tuple[int, int],
        start: Start | None = None,
    ):
        self.model, self.vae, self.timeline, self.stream, self.size = model, vae, timeline, stream, size
        start = start or Start()
        self.notes = start.notes
        self.causal, self.decoder = compat.causal_model(model), compat.streaming_decoder(vae)
        self.effects = effects(model, vae, timeline.clip)
        _check_text_width(timeline, self.causal.config)
        if timeline.endless:
            stream.check_endless()
        self.path, self.store = _film_path(), open_store()
        self.origin = film_origin(model, timeline.clip, self.causal.dtype, stream, size, seed)
        with self.store.locked():
            self.take = self._plan(start.given)
            self.plan, self.book = self.take.plan, SpeedBook()
            # Weights do not count: ComfyUI may leave some of them in main memory.
            room = compat.memory_for_run(model)
            need = estimate(self.causal, self.decoder, self.plan, stream, size, weights=0)
            self.need = need.placed(self.causal.device, room)
            self.expected = estimate_film(
                self.causal,
                self.plan,
                stream,
                size,
                self.need,
                room,
                self.path,
                take=self.take,
                book=self.book,
                main=self.need.moving,
            )
            self.expected.check()
            self.reused, self.there, self.reason = reuse(self.take), self.take.reused, reason_for(self.take)
            self.store.write_manifest(self.take.manifest)
        self.offloader, self.loaded = Offloader(self.need.placement, self.decoder), False
        self.live = Live(self.plan, timeline.endless, stream.longest_shot)

    def run(self, keep_partial: bool) -> Filmed:
        """Render. Cancel raises, but with `keep_partial` and a first chunk it ends the film there."""
        began, cancelled = time.perf_counter(), False
        recorder = SpeedRecorder(self.book, self.expected.key)
        watcher = Watcher(self.take, self.live, len(self.stream.denoising_steps) + 1, recorder)
        log.info("%s\n%s", self.reused, self.expected.describe())
        watcher.report(
            reports.beginning_report(
                self.expected, self.there, self.reason, self.timeline.endless, self.effects.without, self._hints()
            )
        )
        make_room(self.take, self.expected, watcher.report)
        with showing(watcher.node, watcher.prompt_id, self.live):
            try:
                self._render(watcher)
            except compat.Cancelled:
                if not (keep_partial and self.live.progress.chunk):
                    raise
                cancelled = True
        tags = self._metadata(self.take)
        frames = self.take.join(self.path, tags, subtitles=tags is not None)
        recorder.finish(os.path.getsize(self.path), frames)
        ended = self._ended(cancelled)
        handle = TakeHandle(str(self.store.folder), self.take.id, self.live.progress.chunk)
        as_asked = ended == reports.COMPLETE and self.take.plan is self.plan
        return Filmed(self.path, self._report(time.perf_counter() - began, ended), handle, as_asked)

    def _ended(self, cancelled: bool) -> str:
        """How the film came to its end. Without end it is one that was asked for, whoever ended it."""
        if cancelled:
            return reports.CANCELLED
        if self.live.progress.no_room is not None:
            return reports.NO_ROOM
        if self.timeline.endless:
            return reports.FINISHED if self.live.finishing else reports.LONGEST if self.live.full else reports.FULL
        return reports.COMPLETE if self.live.progress.chunk >= self.take.plan.chunks else reports.FINISHED

    def _plan(self, start: Tensor | TakeHandle | None) -> Take:
        plan, given = self.timeline.plan(self.stream.chunk), None
        vae = vae_identity(self.vae, self.decoder.width)
        text = self.timeline.text
        if isinstance(start, TakeHandle):
            plan, given = extended(self.store, start.id, start.chunks, plan, self.size)
            text = plan_text(plan)
        else:
            check_first(self.timeline.script.segments[0])
        if isinstance(start, Tensor):
            given = store_start_latents(self.store, start, self.origin, plan.chunks)
        encoding = Encoding(*self.size, fps=plan.fps)
        return plan_take(self.store, text, plan, self.origin, encoding, vae, given)

    def _render(self, watcher: Watcher) -> None:
        contexts = PromptEmbeddings(self._encode, known=self.timeline.contexts)
        with ExitStack() as stack:

            def prepare() -> None:
                # Those of a take that the film continues, too; before the model needs the device.
                for text in cancellable(self.plan.texts):
                    contexts(text)
                self._load()
                stack.enter_context(sampling(self.model))

            watcher.prepare, watcher.changed = prepare, self._follow
            stack.callback(compat.release_memory)
            stack.callback(self.decoder.reset)
            render_take(
                self.take,
                self.causal,
                self.decoder,
                contexts,
                self._metadata,
                watcher,
                self.live,
                self.offloader,
            )

    def _follow(self, take: Take) -> None:
        """The plan was changed while it was rendered."""
        self.take = take

    def _still_to_allocate(self) -> int:
        """Bytes that the run will take on the device beyond what it holds there now."""
        return max(0, self.need.run - self.offloader.allocated)

    def _load(self) -> None:
        compat.load_for_run(self.model, self.vae, self._still_to_allocate())
        self.loaded = True
        self.effects = self.effects.merged(effects(self.model, self.vae, self.timeline.clip))  # loading replaces parts

    def _encode(self, texts) -> dict[str, Tensor]:
        """Prompts that came while rendering, or of a take that the film continues."""
        clip = self.timeline.clip
        if not self.loaded:
            return {text: compat.text.encode_text(clip, text) for text in texts}
        beside = compat.clip_beside(clip, self._still_to_allocate())
        encoded = {text: compat.text.encode_text(beside, text) for text in texts}
        if beside is clip:
            self._load()  # ComfyUI may have taken some of the model off the device after all
        return encoded

    def _metadata(self, take: Take) -> dict[str, str] | None:
        if not compat.metadata_wanted():
            return None
        config = self.causal.config
        name = f"Wan 2.1, width {config.dim}, {config.num_layers} layers"
        tags = film_metadata(take.manifest.timeline, take.plan, self.stream, self.origin.seed, self.size, name)
        return with_given(tags, take.manifest.given)

    def _hints(self) -> list[str]:
        """What the film is not, though its inputs look so: of prompts that were typed while it was rendered, too."""
        cuts = (compat.text.text_cut(self.timeline.clip, text) for text in cancellable(self.take.plan.texts))
        return [*self.notes, *self.live.progress.notes, *(cut for cut in cuts if cut is not None)]

    def _report(self, seconds: float, ended: str) -> dict[str, Any]:
        done = self.live.progress
        facts = {
            "frames": done.frames,
            "seconds": round(done.frames / self.plan.fps, 3),
            "fps": self.plan.fps,
            "chunks": done.chunk,
            "chunks_asked": None if self.timeline.endless else self.plan.chunks,
            "width": self.size[0],
            "height": self.size[1],
            "seed": self.origin.seed,
            "positions": self.stream.positions,
            "dtype": self.origin.dtype,
            "placement": self.need.placement.name,
            "vae_dtype": str(self.decoder.dtype).removeprefix("torch."),
            "expected_seconds": self.expected.seconds,
            "take": self.take.id,
            "partial": ended == reports.CANCELLED or done.chunk < self.take.plan.chunks,
            "ended": ended,
            "no_room": done.no_room,
            "reused": self.reused,
            "honoured": self.effects.honoured,
            "no_effect": self.effects.without,
            "hints": self._hints(),
            "repaired": reports.repaired_line(done.repaired),
            "rendered_chunks": done.rendered,
            "render_seconds": round(seconds, 3),
            "frames_per_second": round(done.rendered_frames / seconds, 2) if done.rendered else None,
            "segments": [
                {
                    "start_seconds": round(segment.start_seconds, 3),
                    "start_frame": segment.start_frame,
                    "start_chunk": segment.start_chunk,
                    "transition": segment.transition,
                    "text": segment.text,
                }
                for segment in self.take.plan.segments
            ],
        }
        return {**facts, "summary": reports.film_report(facts, self.there, self.reason)}


class Watcher(Observer):
    """Tells ComfyUI how far a film is: its progress bar with one picture a chunk, and `longlive.chunk` events."""

    def __init__(self, take: Take, live: Live, passes: int, recorder: SpeedRecorder):
        self.take, self.live, self.passes, self.recorder = take, live, passes, recorder
        self.rendered = 0
        self.node, self.prompt_id, self.client = compat.server.who_runs()
        self.total = take.plan.chunks * passes
        self.bar = comfy.utils.ProgressBar(self.total)

    def step(self, chunk: int, step: int) -> None:
        """Before a pass. A recache counts as its chunk's first. Raises on Cancel."""
        compat.check_cancelled()
        if compat.server.waiting() < MOST_MESSAGES:
            self.bar.update_absolute(min(chunk * self.passes + step, self.total), self.total)

    def chunk(self, chunk: int, frames: np.ndarray | None) -> None:
        """After a chunk is stored; frames: uint8 [T, H, W, 3] where it was decoded. Raises on Cancel."""
        compat.check_cancelled()
        rendered = self.live.progress.rendered
        self.recorder.lap(rendered > self.rendered)
        self.rendered = rendered
        waiting = compat.server.waiting()
        if waiting >= MOST_MESSAGES:  # a client has stopped reading: nobody is told anything, and memory would fill
            return
        seen = frames is not None and waiting < MOST_PICTURES
        preview = ("JPEG", Image.fromarray(frames[-1]), PREVIEW_SIZE) if seen else None
        self.bar.update_absolute(min((chunk + 1) * self.passes, self.total), self.total, preview)
        # The growing film lies with the take that was begun, also where a new prompt made it another.
        status = self.live.status(timeline=False)
        event = {
            "node": self.node,
            "prompt_id": self.prompt_id,
            **status,
            "chunk": chunk,
            "file": film_file(self.take.id, self.take.growing_name),
            "size": list(self.take.origin.size),
            "said": reports.progress_line(status, self.take.plan.fps),
        }
        compat.server.send("longlive.chunk", event, self.client)

    def report(self, text: str) -> None:
        """A line under the node, before the film is there."""
        compat.server.send_text(text, self.node, self.client)


def _film_path() -> str:
    """A new file in ComfyUI's temporary folder; ValueError where none can be written there."""
    folder = folder_paths.get_temp_directory()
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"ComfyUI's temporary folder {folder} cannot be made ({error.strerror}); choose another with "
            "--temp-directory"
        ) from error
    path = os.path.join(folder, f"longlive_{uuid.uuid4().hex[:12]}.mp4")
    check_writable(path)
    return path


def _check_text_width(timeline: Timeline, config: ModelConfig) -> None:
    width = next(iter(timeline.contexts.values())).shape[-1]
    if width != config.text_dim:
        raise ValueError(
            f"the timeline's CLIP makes embeddings {width} wide, the model takes {config.text_dim}: "
            "connect the CLIP of Load LongLive, or CLIPLoader of type wan"
        )
