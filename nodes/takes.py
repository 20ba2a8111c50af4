"""Nodes around takes: frames out of one, one from the store, and a shorter one to go on from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..longlive_core.reports import branch_report, take_choices, take_report
from ..longlive_core.takes import Manifest, TakeError, TakeMissing, TakeStore, check_place, find_place
from ..longlive_core.takes.frames import decoded_frames, latents_of, stored_frames
from . import bounds, compat
from .handles import TakeHandle, TakeType
from .prompt_graph import UNKNOWN, Graph
from .queueing import judged, widgets_fault, widgets_judged
from .search_words import WORDS
from .stores import open_store, store_folder

NEWEST = "newest"
MOST_FRAMES = 1000
FIRST_PLACE = "2s"  # inside nearly every take
_ID = re.compile(r"(?:.*\[)?([0-9a-f]{12})\]?\s*\Z", re.DOTALL)  # alone, or in brackets at a label's end
_listed: dict[Path, tuple[tuple, list[str]]] = {}  # of the folder listed last: its state, and its choices
_ID_BEFORE = re.compile(r"([0-9a-f]{12}) ")  # followed by first words


class LongLiveTakeFrames(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.schema(
            node_id="LongLiveTakeFrames",
            display_name="Take Frames",
            category="LongLive",
            description="A range of a take's frames for upscalers, interpolators and image nodes, and its last frame. "
            "The whole film never lies in memory.",
            search_aliases=WORDS["LongLiveTakeFrames"],
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
    @compat.cancellable()
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
            search_aliases=WORDS["LongLiveLoadTake"],
            inputs=[
                io.Combo.Input(
                    "name", options=[NEWEST, *_choices()], default=NEWEST,
                    tooltip="The takes, the one rendered last first: when, length, size, first words, id. Press R to "
                    "read the folder again. Programs give the id alone, or newest.",
                ),
            ],
            outputs=[TakeType.Output(display_name="TAKE")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, name=None):
        # A take may have come, or gone on, after the front end read the list, so its words do not count.
        return judged("LongLiveLoadTake", _name_fault, alone=None if name is None else _take_fault(name))

    @classmethod
    def fingerprint_inputs(cls, name=None, **inputs):
        return _manifest(name or NEWEST).used

    @classmethod
    @compat.cancellable()
    def execute(cls, name: str, **removed) -> io.NodeOutput:
        compat.refuse_removed(removed)
        manifest = _manifest(name)
        store = open_store()
        handle = TakeHandle(str(store.folder), manifest.id, store.rendered(manifest))
        return io.NodeOutput(handle, ui=ui.PreviewText(take_report(manifest, handle.chunks)))


def _name_fault(graph: Graph, node: str) -> str | None:
    name = graph.value(node, "name", NEWEST)
    return None if name is UNKNOWN else _take_fault(name)


def _take_fault(name: Any) -> str | None:
    """What is wrong with a choice of Load Take."""
    if name == NEWEST:
        return None
    try:
        TakeStore(store_folder(), create=False).read_manifest(_id_of(name))
    except TakeMissing:
        return f"there is no take {_id_of(name)} here: press R to read the list again"
    except TakeError as error:
        return str(error)
    return None


def _choices() -> list[str]:
    """A label for every take, the one rendered last first; those that cannot be read come last, and say so."""
    if not (Path(store_folder()) / "takes").is_dir():
        return []
    try:
        store = TakeStore(store_folder(), create=False)
    except TakeError:
        return []  # whoever renders is told why
    state = store.state()
    if _listed.get(store.folder, (None,))[0] != state:  # ComfyUI asks many times for every prompt
        _listed.clear()
        _listed[store.folder] = (state, take_choices(store))
    return _listed[store.folder][1]


def _id_of(name: Any) -> str:
    """The id in a choice of this version or an earlier one. TakeError where there is none."""
    match = (_ID.match(name) or _ID_BEFORE.match(name)) if isinstance(name, str) else None
    if match is None:
        raise TakeError(f"{bounds.shown(name)} names no take: choose one from the list, or give its id, which is "
                        "twelve hexadecimal digits, or newest")  # fmt: skip
    return match[1]


def _manifest(name: str) -> Manifest:
    store = open_store()
    if name != NEWEST:
        return store.read_manifest(_id_of(name))
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
            search_aliases=WORDS["LongLiveBranchTake"],
            inputs=[
                TakeType.Input("take", tooltip="From Stream Sampler or Load Take."),
                compat.widget(
                    io.String, "at", default=FIRST_PLACE, optional=True,
                    tooltip="Where to leave the take: a time (12s, 0:12), which snaps to the nearest chunk; segment 2, "
                    "which keeps all that comes before that prompt; or how many chunks stay (16c).",
                ),
                compat.widget(
                    io.Int, "chunks", min=1, max=1_000_000, optional=True, force_input=True,
                    tooltip="How many chunks stay, as a number from another node. It goes before 'at'.",
                ),
            ],
            outputs=[TakeType.Output(display_name="TAKE")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, take=None):  # one input, which is always there, see compat_prompt
        return judged("LongLiveBranchTake", _branch_fault)

    @classmethod
    @compat.cancellable()
    def execute(cls, take: TakeHandle, **widgets) -> io.NodeOutput:
        at, chunks = bounds.settings(cls.define_schema().inputs, widgets).values()
        check_place(at)
        manifest = take.store().read_manifest(take.id)
        place = find_place(manifest, at if chunks is None else f"{chunks}c", take.chunks)
        branch = TakeHandle(take.folder, take.id, place.chunks)
        return io.NodeOutput(branch, ui=ui.PreviewText(branch_report(manifest, place)))


def _branch_fault(graph: Graph, node: str) -> str | None:
    fault, _ = widgets_fault(graph, node, LongLiveBranchTake.define_schema().inputs)
    at = graph.value(node, "at", FIRST_PLACE)
    return fault or (None if at is UNKNOWN else _place_fault(at))


def _place_fault(at: Any) -> str | None:
    """None also where it is linked, and known when it runs; what is no text is refused by others."""
    try:
        if isinstance(at, str):
            check_place(at)
    except ValueError as error:
        return str(error)
    return None
