"""Stream Sampler: a timeline becomes a film, chunk by chunk, straight into a file."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from comfy_api.latest import InputImpl, io, ui

from ..longlive_core.config import PRESETS, StreamConfig
from ..longlive_core.sizes import film_size
from . import compat
from .filming import Filming
from .handles import TakeType, checked_take
from .inputs import AUTO, KEEP, sampler_inputs
from .search_words import WORDS
from .starts import read_start
from .validation import widget_values
from .validation.film import SAMPLER, sampler_error
from .validation.queued import validate_queued

# By node: how many of its results were not the film that its inputs request. As part of the fingerprint it keeps
# ComfyUI from reusing such a result as the whole film.
_partial_results: Counter[str] = Counter()


class LongLiveStreamSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.schema(
            node_id=SAMPLER,
            display_name="Stream Sampler",
            category="LongLive",
            description="Renders a timeline chunk by chunk: every chunk is denoised, decoded and written before the "
            "next begins, so memory does not grow with the film. All of it is kept as a take: after Cancel, a crash or "
            "a change the next run renders only what is missing.",
            has_intermediate_output=True,
            search_aliases=WORDS["LongLiveStreamSampler"],
            inputs=sampler_inputs(),
            outputs=[io.Video.Output(display_name="VIDEO"), TakeType.Output(display_name="TAKE")],
        )

    @classmethod
    def validate_inputs(cls, timeline=None):  # one input, see compat.queued_prompt
        return validate_queued(SAMPLER, sampler_error)

    @classmethod
    def fingerprint_inputs(cls, **inputs):
        return _partial_results[compat.server.who_runs()[0]]

    @classmethod
    @compat.cancellable()
    def execute(cls, model, vae, timeline, start_image=None, start_latent=None, take=None, **widgets) -> io.NodeOutput:
        """Render a film. widgets: those of `sampler_inputs`; a missing one has its default."""
        given = widget_values.settings(sampler_inputs(), widgets)
        compat.refuse_missing(MODEL=model, VAE=vae)
        take = None if take is None else checked_take(take)
        preset = compat.preset_of(model)
        stream = _stream(given, preset)
        requested = (given["size"], given["width"], given["height"])
        size = film_size(*requested, preset, _size_before(start_latent, take))
        start = read_start(vae, timeline, size, stream.chunk, start_image, start_latent, take)
        seed, keep_partial = given["seed"], given["on_cancel"] == KEEP
        filmed = Filming(model, vae, timeline, stream, seed, size, start).run(keep_partial)
        if not filmed.as_requested:
            _partial_results[compat.server.who_runs()[0]] += 1
        report = json.dumps(filmed.report, ensure_ascii=False)
        return io.NodeOutput(InputImpl.VideoFromFile(filmed.path), filmed.take, ui=ui.PreviewText(report))


def _stream(given: dict[str, Any], preset: str) -> StreamConfig:
    positions = PRESETS[preset].positions if given["positions"] == AUTO else given["positions"]
    return StreamConfig(
        window=given["window"],
        sink=given["sink"],
        chunk=given["chunk"],
        sink_policy=given["sink_policy"],
        shift=given["shift"],
        denoising_steps=StreamConfig.even_steps(given["steps"]),
        positions=positions,
    )


def _size_before(latent, take) -> tuple[int, int] | None:
    """Return (width, height) of the take or latents that the film starts from, its only possible size; else None."""
    if take is not None:
        width, height = take.store().read_manifest(take.id).origin["size"]
        return width, height
    return None if latent is None else compat.latent_size(latent)
