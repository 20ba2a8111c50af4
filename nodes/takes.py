"""Nodes around takes: frames out of one, one from the store, and a shorter one to go on from."""

from __future__ import annotations

from pathlib import Path

import torch
from comfy_api.latest import io, ui

from ..longlive_core.takes import Manifest, TakeError, TakeStore
from ..longlive_core.takes.frames import decoded_frames, latents_of, stored_frames
from . import bounds, compat
from .handles import TakeHandle, TakeType
from .queueing import widgets_judged
from .stores import open_store, store_folder

NEWEST = "newest"
MOST_FRAMES = 1000


class LongLiveTakeFrames(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.schema(
            node_id="LongLiveTakeFrames",
            display_name="Take Frames",
            category="LongLive",
            description="A range of a take's frames for upscalers, interpolators and image nodes, and its last frame. "
            "The whole film never lies in memory.",
            search_aliases=["last frame", "get frames", "split video"],
            inputs=[
                TakeType.Input("take", tooltip="From Stream Sampler or Load Take."),
                compat.widget(
                    io.Int, "first", default=0, min=-1_000_000, max=1_000_000,
                    tooltip="First frame of the range. Below 0 it counts from the film's end: -16 is the last second "
                    "at 16 fps.",
                ),
                compat.widget(
                    io.Int, "frames", default=48, min=1, max=MOST_FRAMES,
                    tooltip="Frames of the range, as many as there are. Each takes 12 bytes a pixel: 48 of 832x480 "
                    "are 230 MB.",
                ),
                io.Vae.Input("vae", optional=True, tooltip="With the VAE the frames are decoded from the latents "
                             "without loss; without it they are those of the film's video."),
            ],
            outputs=[
                io.Image.Output(display_name="IMAGE"),
                io.Latent.Output(display_name="LATENT"),
                io.Image.Output(display_name="LAST FRAME"),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, take=None):  # one input, see compat_prompt
        return widgets_judged(cls)

    @classmethod
    def execute(cls, take: TakeHandle, vae=None, **widgets) -> io.NodeOutput:
        first, frames = bounds.settings(cls.define_schema().inputs, widgets).values()
        store = take.store()
        manifest = store.read_manifest(take.id)
        chunks = min(take.chunks, store.rendered(manifest))
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
            description="A take that was rendered before, to go on from it or to take frames out of it.",
            search_aliases=["resume video", "extend video"],
            inputs=[
                io.Combo.Input(
                    "name", options=[NEWEST, *_names()], default=NEWEST,
                    tooltip="The take's id and its first words, the newest first. Press R to read the folder again.",
                ),
            ],
            outputs=[TakeType.Output(display_name="TAKE")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, name=None):
        return True  # a take may have come after the front end read the list; execute looks

    @classmethod
    def fingerprint_inputs(cls, name=None, **inputs):
        return _manifest(name or NEWEST).used

    @classmethod
    def execute(cls, name: str, **removed) -> io.NodeOutput:
        compat.refuse_removed(removed)
        manifest = _manifest(name)
        store = open_store()
        handle = TakeHandle(str(store.folder), manifest.id, store.rendered(manifest))
        return io.NodeOutput(handle, ui=ui.PreviewText(_said(handle, manifest)))


def _names() -> list[str]:
    if not (Path(store_folder()) / "takes").is_dir():
        return []
    return [f"{take.id} {take.segments[0]['text'][:60]}" for take in TakeStore(store_folder(), create=False).takes()
            if isinstance(take, Manifest)]  # fmt: skip


def _manifest(name: str) -> Manifest:
    store = open_store()
    if name != NEWEST:
        return store.read_manifest(name.split(" ")[0])
    newest = max((take for take in store.takes() if isinstance(take, Manifest)), key=lambda take: take.used,
                 default=None)  # fmt: skip
    if newest is None:
        raise TakeError("there is no take yet; render a film first")
    return newest


class LongLiveBranchTake(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.schema(
            node_id="LongLiveBranchTake",
            display_name="Branch Take",
            category="LongLive",
            description="The beginning of a take, to go on from there in another way. Nothing is copied.",
            search_aliases=["fork video", "split take"],
            inputs=[
                TakeType.Input("take", tooltip="From Stream Sampler or Load Take."),
                compat.widget(
                    io.Int, "chunks", default=13, min=1, max=1_000_000,
                    tooltip="How many of the take's chunks stay (12 frames each, the first of a shot 9): 13 are the "
                    "first 9.6 s at 16 fps.",
                ),
            ],
            outputs=[TakeType.Output(display_name="TAKE")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, take=None):  # one input, see compat_prompt
        return widgets_judged(cls)

    @classmethod
    def execute(cls, take: TakeHandle, **widgets) -> io.NodeOutput:
        (chunks,) = bounds.settings(cls.define_schema().inputs, widgets).values()
        if chunks > take.chunks:
            raise ValueError(f"the take has {take.chunks} chunks, so it cannot be branched after {chunks}")
        branch = TakeHandle(take.folder, take.id, chunks)
        manifest = take.store().read_manifest(take.id)
        return io.NodeOutput(branch, ui=ui.PreviewText(_said(branch, manifest)))


def _said(handle: TakeHandle, manifest: Manifest) -> str:
    """A take in one line."""
    width, height = manifest.origin["size"]
    return f"take {handle.id}: {handle.chunks} chunks, {width}x{height}: {manifest.segments[0]['text'][:80]}"
