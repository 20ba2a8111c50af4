"""Films by the nodes of this pack, in the stand-in host of tests/hosts: what a workflow gets.

Goes through the nodes' `execute` alone, which renders by `nodes/filming.py`; only `Parts` knows where things are.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file

from longlive_core.checkpoints.text_encoder import TextEncoder
from longlive_core.model import WanModel
from longlive_core.vae import WanVAE

from ..hosts import fakes
from .matrix import BASE, Film
from .models import CONFIG, TEXT_LENGTH, VAE_WIDTH

PASSES = BASE["steps"] + 1  # of a chunk; the bar counts them
TIMES = ("expected_seconds", "render_seconds", "frames_per_second")  # of a report; the machine's


class Parts:
    """MODEL, CLIP and VAE as loaders hand them on."""

    def __init__(self, paths: dict[str, Path]):
        module, vae = WanModel(CONFIG), WanVAE(dim=VAE_WIDTH)
        module.load_state_dict(load_file(paths["model"]))
        vae.load_state_dict(load_file(paths["vae"]))
        module.requires_grad_(False), vae.requires_grad_(False)
        named = {f"diffusion_model.{name}": weight for name, weight in module.state_dict().items()}
        self.model = fakes.Patcher(
            SimpleNamespace(diffusion_model=module, get_dtype=lambda: torch.float32, state_dict=lambda: named)
        )
        self.vae = SimpleNamespace(
            first_stage_model=vae,
            latent_channels=16,
            vae_dtype=torch.float32,
            patcher=fakes.Patcher(vae),
            device=torch.device("cpu"),
            memory_used_decode=lambda shape, dtype: 0,
        )
        self._encoder, self._texts = TextEncoder.load(paths["text_encoder"]), {}
        patcher = fakes.Patcher(self._encoder.model)
        patcher.is_dynamic = lambda: True  # so prompts that arrive during a render unload no model
        self.clip = SimpleNamespace(
            patcher=patcher,
            cond_stage_model=SimpleNamespace(text_len=TEXT_LENGTH),
            tokenize=self._tokens,
            encode_from_tokens_scheduled=self._encoded,
        )

    def _tokens(self, text: str, **options) -> dict:
        ids = self._encoder.all_ids(text)
        kept = ids if len(ids) <= TEXT_LENGTH else [*ids[: TEXT_LENGTH - 1], ids[-1]]
        self._texts[tuple(kept)] = text
        return {"umt5xxl": [[(number, 1.0) for number in ids]]}

    def _encoded(self, tokens: dict) -> list:
        ids = tuple(number for number, *_ in tokens["umt5xxl"][0])
        return [[self._encoder.encode([self._texts[ids]])]]


class Nodes:
    """The nodes of the pack in a host. folder: one folder for each film's name."""

    def __init__(self, host: fakes.Host, package, parts: Parts, folder: Path):
        self.host, self.nodes, self.parts, self.folder = host, package.nodes, parts, folder

    @classmethod
    @contextlib.contextmanager
    def running(cls, paths: dict[str, Path], folder: Path) -> Iterator[Nodes]:
        host = fakes.Host(fakes.NEW, folder)
        with host.pack() as package:
            yield cls(host, package, Parts(paths), folder)

    def timeline(self, film: Film, fps: float = 16.0) -> tuple[Any, str]:
        """-> TIMELINE, and what Prompt Timeline shows."""
        (timeline,), shown = self.nodes.LongLivePromptTimeline.execute(
            clip=self.parts.clip, text=film.text, duration=film.duration, fps=fps
        )
        return timeline, shown

    def render(self, name: str, film: Film, fps: float = 16.0, **sockets) -> SimpleNamespace:
        """-> film, take (TAKE), report without times, summary, shown (by the timeline). Into `self.store(name)`."""
        self.host.temp = self.folder / name.replace(" ", "_")
        timeline, shown = self.timeline(film, fps)
        (path, take), said = self.nodes.LongLiveStreamSampler.execute(
            self.parts.model, self.parts.vae, timeline, **sockets, **film.run
        )
        report = {key: value for key, value in json.loads(said).items() if key not in TIMES}
        summary = report.pop("summary").splitlines()
        summary = [line for line in summary if not line.startswith("rendered in ")]
        return SimpleNamespace(film=Path(path), take=take, report=report, summary=summary, shown=shown.splitlines())

    def store(self, name: str) -> Path:
        return self.folder / f"{name.replace(' ', '_')}_output" / "longlive"

    def branch(self, take, at: str) -> tuple[Any, str]:
        (branched,), shown = self.nodes.LongLiveBranchTake.execute(take=take, at=at)
        return branched, shown

    @contextlib.contextmanager
    def after(self, chunks: int, act: Callable[[], None]) -> Iterator[None]:
        """Call `act` once when the bar of the next film has come so far, from where nodes look at Cancel."""
        before, done, bar = self.host.interrupt.check, [], self.host.progress
        bar.clear()

        def check() -> None:
            if not done and bar and bar[-1][0] >= chunks * PASSES:
                done.append(True)
                act()
            before()

        management = self.nodes.compat.running.management
        management.throw_exception_if_processing_interrupted = check
        try:
            yield
        finally:
            management.throw_exception_if_processing_interrupted = before
        assert done, f"the film had fewer than {chunks} chunks"

    def cancel(self) -> None:
        raise self.host.interrupt.kind()

    @property
    def live(self):
        """The film that is rendered now, to be steered."""
        return self.nodes.routes.live.find("").live

    def schemas(self) -> dict[str, Any]:
        """The inputs of every node, as workflows and the API know them: order, kinds, defaults, ranges, choices."""
        described = {}
        for kind in asyncio.run(self.nodes.LongLiveExtension().get_node_list()):
            schema = kind.define_schema().given
            described[schema["node_id"]] = {
                "inputs": {given.given["id"]: _described(given) for given in schema["inputs"]},
                "outputs": [output.given.get("display_name") for output in schema["outputs"]],
            }
        return described


def _described(given) -> list:
    facts = {
        name: given.given[name]
        for name in ("default", "min", "max", "step", "options", "optional", "advanced")
        if given.given.get(name) is not None
    }
    return [type(given).__name__, facts]
