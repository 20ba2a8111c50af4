"""One case of the matrix: a MODEL from a file, on its way to the sampler, and the film that the nodes make of it."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import ggml, host, weights
from .card import Card
from .cases import CHUNKS, Case
from .events import Event

TEXT = "0s A red ball circles.\n2.25s A blue square bounces."  # the change comes before the fourth chunk
FPS, SIZE = 16, (32, 16)
SECONDS = 57 / FPS  # nine frames and four times twelve
# Functions of the rollout, the innermost first: all passes of a chunk, of a change of prompt, what is around them.
PHASES = ("Shot.next_chunk", "Shot.recache", "Shot.switch")
EMPTY = np.zeros((0, *SIZE[::-1], 3), np.uint8)
WINDOW, STEPS = 6, 2  # full after the second chunk


@dataclass(frozen=True)
class Film:
    """report: of the sampler. latents: as stored, [1, 16, T, h, w]. frames: before encoding, uint8 [T, H, W, 3]."""

    report: dict
    latents: Tensor
    frames: np.ndarray


class Unavailable(Exception):
    """This ComfyUI does not have it."""


class Studio:
    """Films of one process. folder: for files of weights, and what ComfyUI writes."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.pack = host.start(folder)
        self.nodes = {
            name: importlib.import_module(f"longpack.nodes.{name}")
            for name in ("compat", "pocket_clip", "quantize", "sampler", "timeline", "stores")
        }
        self.frames: list[np.ndarray] = []  # of the chunks that were decoded, uint8 [T, H, W, 3] each
        self._see_frames()
        self.graphs = 0  # that TorchDynamo created, see `compiled`
        self._references: dict[tuple, Film] = {}

    def _see_frames(self) -> None:
        rendering = importlib.import_module("longpack.longlive_core.takes.rendering")
        encode = rendering.encode_unit

        def seeing(frames, *others):
            self.frames.append(frames)
            return encode(frames, *others)

        rendering.encode_unit = seeing

    # --- the film of a case, and the one to compare it with

    def film(self, case: Case) -> dict:
        """What a case's film is like; see the keys. "lora does": how far from it the film without the LoRA is."""
        card = Card() if case.way != "compiled" else None  # TorchDynamo leaves alone what runs under such a mode
        share = 0.5 if case.way in ("partial", "lora_partial") else 1.0
        with torch.inference_mode(), host.with_card(case.native, card=card is not None, share=share):
            if card is None:
                facts, film = self._filmed(case)
            else:
                with card:
                    facts, film = self._filmed(case)
            host.release()
        reference = self.reference(case.form, lora="lora" in case.way)
        plain = self.reference(case.form, lora=False)
        return {
            **facts,
            "error": errors(film.latents, reference.latents),
            "pixels": apart(film, reference),
            "lora does": errors(plain.latents, reference.latents)[-1],
            "events": seen(card.events) if card else [],
        }

    def reference(self, form: str, lora: bool) -> Film:
        """Return the float32 film of the same weights, on a plain CPU."""
        key = (form, lora)
        if key not in self._references:
            numbers = weights.meant(form)
            numbers = weights.with_lora(numbers) if lora else numbers
            with torch.inference_mode(), host.plain_cpu():
                model = self.nodes["compat"].model_of_weights(numbers, torch.float32)
                self._references[key] = self.roll(model, self.vae("fp32", form))
                host.release()
        return self._references[key]

    def _filmed(self, case: Case) -> tuple[dict, Film]:
        model, vae = self.model(case), self.vae("auto", case.form)
        self.graphs = 0
        film = self.roll(model, vae)
        again = self.roll(model, vae, anew=False).report
        inner = model.model
        facts = {
            "report": film.report,
            "rendered again": again["rendered_chunks"],
            "graphs": self.graphs,
            "dtype": str(self.nodes["compat"].causal_model(model).dtype),
            "vae": str(vae.vae_dtype),
            "offloaded": bool(inner.model_lowvram),
            "weights": sorted({str(parameter.dtype) for parameter in inner.parameters()}),
        }
        return facts, film

    def roll(self, model, vae, anew: bool = True) -> Film:
        """By Prompt Timeline and Stream Sampler."""
        self.frames.clear()
        if anew:  # no film reuses another's chunks
            shutil.rmtree(self.folder / "output", ignore_errors=True)
        clip = self.nodes["pocket_clip"].load_pocket_clip()
        timeline = self.nodes["timeline"].LongLivePromptTimeline.execute(clip, TEXT, SECONDS, float(FPS)).args[0]
        made = self.nodes["sampler"].LongLiveStreamSampler.execute(
            model=model,
            vae=vae,
            timeline=timeline,
            seed=3,
            width=SIZE[0],
            height=SIZE[1],
            steps=STEPS,
            shift=5.0,
            window=WINDOW,
            sink=3,
            sink_policy="held",
            chunk=3,
            positions="absolute",
        )
        handle = made.args[1]
        store = handle.store()
        keys = store.read_manifest(handle.id).keys
        latents = torch.cat([store.load_latents(key).float() for key in keys], dim=2)
        return Film(json.loads(made.ui.as_dict()["text"][0]), latents, np.concatenate(self.frames or [EMPTY]))

    # --- what is given to the sampler

    def vae(self, dtype: str, form: str):
        return self.nodes["compat"].load_vae(str(weights.write_vae(self.folder, loud=form == "loud")), dtype)

    def model(self, case: Case):
        """The MODEL as the nodes before the sampler leave it."""
        model = self.load(case.form)
        if case.way == "lora_quantize":
            return self.quantise(self.with_lora(model))
        if case.way == "quantize_lora":
            return self.with_lora(self.quantise(model))
        if case.way == "compiled":
            return self.compiled(model)
        if case.way.startswith("dynamic"):
            from .dynamic import make_dynamic

            model = make_dynamic(model, weights.in_form(case.form))
        return self.with_lora(model) if "lora" in case.way else model

    def load(self, form: str):
        """By Load LongLive's own code, where it takes such files, else as ComfyUI's and ComfyUI-GGUF's loaders do."""
        import comfy.sd

        if form == "gguf_pack":
            if "COMFYUI_GGUF" not in os.environ:
                raise Unavailable("COMFYUI_GGUF names no folder of ComfyUI-GGUF")
            return ggml.real_pack(weights.in_form(form), os.environ["COMFYUI_GGUF"])
        if form == "gguf":
            options = {"custom_operations": ggml.operations()}
            packed = weights.in_form(form)
            return ggml.patcher(comfy.sd.load_diffusion_model_state_dict(packed, model_options=options))
        path = str(weights.write(self.folder, form))
        if form == "fp8_layers":
            import comfy.ops

            if not hasattr(comfy.ops, "MixedPrecisionOps") and "comfy_quant" not in inspect.getsource(comfy.ops):
                raise Unavailable("this ComfyUI does not read marks of single layers")
        if form.startswith("fp8"):
            return comfy.sd.load_diffusion_model(path)
        return self.nodes["compat"].load_model(path, None, "auto")

    @staticmethod
    def with_lora(model):
        import comfy.sd

        return comfy.sd.load_lora_for_models(model, None, weights.lora(), 1.0, 0.0)[0]

    def compiled(self, model):
        """As nodes that compile block by block do it. The "compiler" counts what it compiles, and changes nothing."""
        from comfy_api.torch_helpers import set_torch_compile_wrapper

        def count(graph, inputs):
            self.graphs += 1
            return graph.forward

        blocks = [f"diffusion_model.blocks.{block}" for block in range(weights.CONFIG.num_layers)]
        model = model.clone()
        set_torch_compile_wrapper(model=model, backend=count, keys=blocks)
        return model

    def quantise(self, model):
        return self.nodes["quantize"].LongLiveQuantizeINT8.execute(model).args[0]


def errors(film: Tensor, reference: Tensor) -> list[float]:
    """Of each chunk: root mean square of the difference, relative to that of the reference."""
    pairs = zip(film.chunk(CHUNKS, dim=2), reference.chunk(CHUNKS, dim=2), strict=True)
    return [((a - b).square().mean().sqrt() / b.square().mean().sqrt()).item() for a, b in pairs]


def apart(film: Film, reference: Film) -> float:
    """Mean absolute difference of pixels, 0 to 255."""
    return float(np.abs(film.frames.astype(np.int16) - reference.frames).mean())


def seen(events: list[Event]) -> list[tuple[str, str, int]]:
    """(where in a chunk's life, what, how often) of everything that the pack itself had a card do.

    What ComfyUI's layers do is left out: they have to fetch what is offloaded.
    """
    found = Counter()
    for event in events:
        phase = next((part for part in PHASES if part in event.within), None)
        layers = "unpinned" in event.operation and "compat/int8.py" in event.place  # fetch weights as ComfyUI's do
        if event.own and not layers and (phase is not None or event.kind == "float64"):
            found[phase or "elsewhere", str(event)] += 1
    return [(*key, count) for key, count in found.items()]
