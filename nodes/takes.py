"""The nodes Take Frames, Load Take and Branch Take."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io, ui

from ..longlive_core.takes import (
    Manifest,
    TakeError,
    TakeMissing,
    TakeStore,
    check_branch_point,
    check_rendered,
    find_branch_point,
)
from ..longlive_core.takes.frame_ranges import decoded_frames, latents_of, stored_frames
from ..longlive_core.takes.labels import branch_report, take_report
from . import compat
from .handles import TakeHandle, TakeType, checked_take
from .search_words import WORDS
from .stores import reading_store
from .take_choices import NEWEST, id_of
from .validation import widget_values
from .validation.graph import UNKNOWN, QueuedGraph
from .validation.queued import validate_queued, validate_widgets, widget_error

MOST_FRAMES = 1000
FIRST_PLACE = "2s"  # inside almost every take


class LongLiveTakeFrames(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.schema(
            node_id="LongLiveTakeFrames",
            display_name="Take Frames",
            category="LongLive",
            description="Outputs a range of a take's frames for upscalers, interpolators and image nodes, and its last "
            "frame. The whole film is never in memory.",
            search_aliases=WORDS["LongLiveTakeFrames"],
            inputs=[
                TakeType.Input("take", tooltip="From Stream Sampler or Load Take."),
                compat.widget(
                    io.Int,
                    "first",
                    default=0,
                    min=-1_000_000,
                    max=1_000_000,
                    tooltip="First frame of the range. A negative number counts from the film's end: -16 is the last "
                    "second at 16 fps.",
                ),
                compat.widget(
                    io.Int,
                    "frames",
                    default=48,
                    min=1,
                    max=MOST_FRAMES,
                    tooltip="Number of frames; fewer if the take ends before. Each needs 12 bytes per pixel: 48 frames "
                    "of 832x480 are 230 MB.",
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="With a VAE the frames are decoded from the latents, without the video's compression loss. "
                    "Without one they are read from the film's video.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="IMAGE"),
                io.Latent.Output(display_name="LATENT"),
                io.Image.Output(display_name="LAST FRAME"),
            ],
        )

    @classmethod
    def validate_inputs(cls, take=None):  # one argument: see compat.queued_prompt
        return validate_widgets(cls)

    @classmethod
    @compat.cancellable()
    def execute(cls, take: TakeHandle, vae=None, **widgets) -> io.NodeOutput:
        first, frames = widget_values.settings(cls.define_schema().inputs, widgets).values()
        take = checked_take(take)
        store = take.store()
        manifest = store.read_manifest(take.id)
        chunks = min(take.chunks, store.rendered(manifest))
        check_rendered(manifest, chunks)
        if vae is None:
            pictures = stored_frames(store, manifest, chunks, first, frames)
            last = stored_frames(store, manifest, chunks, -1, 1)
        else:
            decoder = compat.streaming_decoder(vae)
            compat.load_vae_for_decoding(vae, manifest.origin["size"])
            pictures = decoded_frames(store, manifest, chunks, first, frames, decoder)
            last = decoded_frames(store, manifest, chunks, -1, 1, decoder)
        latents = latents_of(store, manifest, chunks, first, frames)
        return io.NodeOutput(_image(pictures), compat.as_latent(latents), _image(last))


def _image(frames) -> torch.Tensor:
    return torch.from_numpy(frames).float() / 255


class LongLiveLoadTake(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.schema(
            node_id="LongLiveLoadTake",
            display_name="Load Take",
            category="LongLive",
            description="Loads a take that was rendered before, to extend it or to get frames from it.",
            search_aliases=WORDS["LongLiveLoadTake"],
            inputs=[
                io.Combo.Input(
                    "name",
                    options=[NEWEST],
                    default=NEWEST,  # the front end adds the stored takes
                    tooltip="The stored takes, the one rendered last first: date, length, size, first words, id. Press "
                    "R to read the folder again. Programs give the id alone, or newest.",
                ),
            ],
            outputs=[TakeType.Output(display_name="TAKE")],
        )

    @classmethod
    def validate_inputs(cls, name=None):
        # ComfyUI does not know the takes, and labels in the list may have changed since then: only the id counts.
        return validate_queued("LongLiveLoadTake", _name_error, alone=None if name is None else _take_error(name))

    @classmethod
    def fingerprint_inputs(cls, name=None, **inputs):
        return _manifest(reading_store(), NEWEST if name is None else name).used

    @classmethod
    @compat.cancellable()
    def execute(cls, name: str, **removed) -> io.NodeOutput:
        compat.refuse_removed(removed)
        store = reading_store()
        manifest = _manifest(store, name)
        handle = TakeHandle(str(store.folder), manifest.id, store.rendered(manifest))
        check_rendered(manifest, handle.chunks)
        return io.NodeOutput(handle, ui=ui.PreviewText(take_report(manifest, handle.chunks)))


def _name_error(graph: QueuedGraph, node: str) -> str | None:
    name = graph.value(node, "name", NEWEST)
    return None if name is UNKNOWN else _take_error(name)


def _take_error(name: Any) -> str | None:
    """Return why no take can be loaded by this name. Whether a newest one exists is checked at run time."""
    try:
        if name != NEWEST:
            reading_store().read_manifest(id_of(name))
    except TakeMissing as error:
        return f"{error}; press R to read the list again"
    except TakeError as error:
        return str(error)
    return None


def _manifest(store: TakeStore, name: Any) -> Manifest:
    """Return a take's manifest by name, which may be any value. The newest is the take with chunks that was used
    last."""
    if name != NEWEST:
        return store.read_manifest(id_of(name))
    with_chunks = (take for take in store.takes() if isinstance(take, Manifest) and store.has_latents(take.keys[0]))
    newest = max(with_chunks, key=lambda take: take.recency, default=None)
    if newest is None:
        raise TakeError("there is no take yet: render a film first")
    return newest


class LongLiveBranchTake(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.schema(
            node_id="LongLiveBranchTake",
            display_name="Branch Take",
            category="LongLive",
            description="Keeps the beginning of a take, to continue from there in another way. Nothing is copied.",
            search_aliases=WORDS["LongLiveBranchTake"],
            inputs=[
                TakeType.Input("take", tooltip="From Stream Sampler or Load Take."),
                compat.widget(
                    io.String,
                    "at",
                    default=FIRST_PLACE,
                    optional=True,
                    tooltip="Where the branch begins: a time (12s, 0:12), which snaps to the nearest chunk; segment 2, "
                    "which keeps everything before that prompt; or the number of chunks to keep (16c).",
                ),
                compat.widget(
                    io.Int,
                    "chunks",
                    min=1,
                    max=1_000_000,
                    optional=True,
                    force_input=True,
                    tooltip="Number of chunks to keep, from another node. It overrides 'at'.",
                ),
            ],
            outputs=[TakeType.Output(display_name="TAKE")],
        )

    @classmethod
    def validate_inputs(cls, take=None):  # one argument, which is always there: see compat.queued_prompt
        return validate_queued("LongLiveBranchTake", _branch_error)

    @classmethod
    @compat.cancellable()
    def execute(cls, take: TakeHandle, **widgets) -> io.NodeOutput:
        at, chunks = widget_values.settings(cls.define_schema().inputs, widgets).values()
        check_branch_point(at)
        take = checked_take(take)
        manifest = take.store().read_manifest(take.id)
        place = find_branch_point(manifest, at if chunks is None else f"{chunks}c", take.chunks)
        branch = TakeHandle(take.folder, take.id, place.chunks)
        return io.NodeOutput(branch, ui=ui.PreviewText(branch_report(manifest, place)))


def _branch_error(graph: QueuedGraph, node: str) -> str | None:
    error, _ = widget_error(graph, node, LongLiveBranchTake.define_schema().inputs)
    at = graph.value(node, "at", FIRST_PLACE)
    return error or (None if at is UNKNOWN else _place_error(at))


def _place_error(at: Any) -> str | None:
    """Return the error of a text; None for other values: links are checked at run time, other types elsewhere."""
    try:
        if isinstance(at, str):
            check_branch_point(at)
    except ValueError as error:
        return str(error)
    return None
