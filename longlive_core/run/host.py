"""What a run needs from the program that loaded the models: ComfyUI (`nodes/comfy_host.py`), or a `Pipeline`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from ..config import StreamConfig
from ..engine.prompts import PromptEmbeddings
from ..model import CausalWan
from ..takes import Origin, VaeIdentity
from ..timeline import Plan
from ..vae import StreamingDecoder
from .identity import text_identity, weights_identity
from .memory import MemoryPlan, Need, available_memory, estimate, shortage_explained, weight_bytes
from .pipeline import Pipeline


class Host(Protocol):
    """Loaded models, with their identities and the memory available to them.

    Attributes:
        model: the causal forward, on the device that computes the film.
        decoder: the VAE's streaming decoder.
    """

    model: CausalWan
    decoder: StreamingDecoder

    def origin(self, stream: StreamConfig, size: tuple[int, int], seed: int) -> Origin:
        """Identify everything that determines a film's latents. size: (width, height) in pixels."""
        ...

    def vae(self) -> VaeIdentity:
        """Identify what decodes the film."""
        ...

    def memory(self, plan: Plan, stream: StreamConfig, size: tuple[int, int]) -> MemoryPlan:
        """Estimate the memory of a run, and choose where its caches are kept while they are not in use."""
        ...

    def contexts(self, texts: Sequence[str]) -> PromptEmbeddings:
        """Return the embeddings of a film's prompts, encoded when they are needed. texts: the prompts of the plan."""
        ...

    def session(self, need: Need) -> AbstractContextManager[None]:
        """Enclose a run, also one that computes nothing. Leaves no memory in use."""
        ...

    def computing(self, left_to_allocate: Callable[[], int]) -> AbstractContextManager[None]:
        """Keep the models on the device. Entered before the first chunk that has to be computed.

        left_to_allocate: bytes that the run will still allocate on the device.
        """
        ...


class PipelineHost:
    """A `Pipeline` as a run's host: the models stay where they were loaded."""

    def __init__(self, pipeline: Pipeline):
        self.pipeline, self.model, self.decoder = pipeline, pipeline.model, pipeline.decoder

    def origin(self, stream: StreamConfig, size: tuple[int, int], seed: int) -> Origin:
        model, text = self.model, self.pipeline.text
        weights = weights_identity(model.module, model.dtype)
        return Origin(weights, text_identity(text.model), str(model.dtype).removeprefix("torch."), stream, size, seed)

    def vae(self) -> VaeIdentity:
        decoder = self.decoder
        return VaeIdentity(weights_identity(decoder.module, decoder.dtype), str(decoder.dtype), decoder.width)

    def memory(self, plan: Plan, stream: StreamConfig, size: tuple[int, int]) -> MemoryPlan:
        device = self.model.device
        need = estimate(self.model, self.decoder, plan, stream, size)
        available = available_memory(device, need)
        need = need.placed(device, available)
        # On a GPU the weights pass through main memory while they load, and the text encoder stays there.
        text = weight_bytes(self.pipeline.text.model)
        return MemoryPlan(need, available, 0 if device.type == "cpu" else max(need.weights, need.moving) + text)

    def contexts(self, texts: Sequence[str]) -> PromptEmbeddings:
        return PromptEmbeddings(self.pipeline.encode, texts)

    def session(self, need: Need) -> AbstractContextManager[None]:
        return shortage_explained(need, self.model.device)

    def computing(self, left_to_allocate: Callable[[], int]) -> AbstractContextManager[None]:
        return nullcontext()
