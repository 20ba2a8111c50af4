"""MODEL, CLIP and VAE of ComfyUI as the host of a run: what `longlive_core/run/film_run.py` needs of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from ..longlive_core.config import StreamConfig
from ..longlive_core.engine.prompts import PromptEmbeddings
from ..longlive_core.run.memory import MemoryPlan, Need, estimate
from ..longlive_core.takes import Origin, VaeIdentity
from ..longlive_core.timeline import Plan
from . import compat
from .compat.forward import sampling
from .compat.identity import film_origin, vae_identity
from .compat.patches import effects
from .timeline import Timeline


class ComfyHost:
    """ComfyUI loads, moves and unloads the models; see `Host` for the methods.

    Attributes:
        effects: which patches of the nodes between loader and sampler have an effect, and which have none.
    """

    def __init__(self, model, vae, timeline: Timeline):
        self._patcher, self._vae, self._clip, self._known = model, vae, timeline.clip, timeline.contexts
        self.model, self.decoder = compat.causal_model(model), compat.streaming_decoder(vae)
        self.effects = effects(model, vae, timeline.clip)
        self._left_to_allocate: Callable[[], int] | None = None  # while the models are on the device
        _check_text_width(timeline, self.model.config.text_dim)

    def origin(self, stream: StreamConfig, size: tuple[int, int], seed: int) -> Origin:
        return film_origin(self._patcher, self._clip, self.model.dtype, stream, size, seed)

    def vae(self) -> VaeIdentity:
        return vae_identity(self._vae, self.decoder.width)

    def memory(self, plan: Plan, stream: StreamConfig, size: tuple[int, int]) -> MemoryPlan:
        """Estimate the memory, without the weights: ComfyUI may leave some of them in main memory."""
        available = compat.memory_for_run(self._patcher)
        need = estimate(self.model, self.decoder, plan, stream, size, weights=0)
        need = need.placed(self.model.device, available)
        return MemoryPlan(need, available, main=need.moving)

    def contexts(self, texts: Sequence[str]) -> PromptEmbeddings:
        """Return the embeddings. Texts that Prompt Timeline did not encode, of an extended take, are encoded singly."""
        return PromptEmbeddings(self._encode, known=self._known)

    @contextlib.contextmanager
    def session(self, need: Need) -> Iterator[None]:
        try:
            yield
        finally:
            compat.release_memory()

    @contextlib.contextmanager
    def computing(self, left_to_allocate: Callable[[], int]) -> Iterator[None]:
        self._left_to_allocate = left_to_allocate
        try:
            self._load()
            with sampling(self._patcher):
                yield
        finally:
            self._left_to_allocate = None  # it references the run, which references this host

    def _load(self) -> None:
        compat.load_for_run(self._patcher, self._vae, self._left_to_allocate())
        self.effects = self.effects.merged(effects(self._patcher, self._vae, self._clip))  # loading replaces parts

    def _encode(self, texts) -> dict[str, Tensor]:
        """Encode prompts that were typed while rendering, or that belong to a take that the film extends."""
        if self._left_to_allocate is None:
            return {text: compat.text.encode_text(self._clip, text) for text in texts}
        beside = compat.clip_beside(self._clip, self._left_to_allocate())
        encoded = {text: compat.text.encode_text(beside, text) for text in texts}
        if beside is self._clip:
            self._load()  # ComfyUI may have taken some of the model off the device
        return encoded


def _check_text_width(timeline: Timeline, width: int) -> None:
    encoded = next(iter(timeline.contexts.values())).shape[-1]
    if encoded != width:
        raise ValueError(
            f"the timeline's CLIP makes embeddings {encoded} wide, the model takes {width}: connect the CLIP of Load "
            "LongLive, or CLIPLoader of type wan"
        )
