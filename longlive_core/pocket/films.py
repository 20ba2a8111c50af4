"""Films of the pocket model for looking and scoring: many at once, and a timeline.

Shapes: B films rendered together, T frames.
"""

import numpy as np
import torch

from ..film import to_frames
from ..noise import AddressedNoise
from ..pipeline import Pipeline
from ..prompts import Contexts, prompt_spans
from ..rollout import PromptSpan, rollout
from ..timeline import parse
from .world import FPS, HEIGHT, WIDTH

LATENT_SIZE = (HEIGHT // 8, WIDTH // 8)


@torch.no_grad()
def films(pipeline: Pipeline, prompts: list[tuple[int, list[str]]], chunks: int, seeds: list[int]) -> list[np.ndarray]:
    """B films in one batch, uint8 [T, 80, 128, 3] each.

    Args:
        prompts: (first chunk, one text for each film), in order; later ones take over by recache.
        chunks: length of the films.
        seeds: of each film's noise.
    """
    contexts = [torch.cat([pipeline.encode([text])[text] for text in texts]) for _, texts in prompts]
    spans = [PromptSpan(first, context) for (first, _), context in zip(prompts, contexts, strict=True)]
    parts = rollout(pipeline.model, spans, chunks, LATENT_SIZE, pipeline.stream, AddressedNoise(seeds))
    latents = torch.cat([chunk.latents for chunk in parts], dim=2)
    return [_decode(pipeline, latents[film:film + 1]) for film in range(len(seeds))]


@torch.no_grad()
def story(pipeline: Pipeline, text: str, seconds: float, seed: int) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """The film of a timeline, and (first frame, text) of its segments."""
    plan = parse(text).plan(seconds, fps=FPS, chunk=pipeline.stream.chunk)
    spans = prompt_spans(plan.prompts, Contexts(pipeline.encode, plan.texts))
    parts = rollout(pipeline.model, spans, plan.chunks, LATENT_SIZE, pipeline.stream, AddressedNoise(seed))
    latents = torch.cat([chunk.latents for chunk in parts], dim=2)
    return _decode(pipeline, latents), [(s.start_frame, s.text) for s in plan.segments]


def _decode(pipeline: Pipeline, latents: torch.Tensor) -> np.ndarray:
    pipeline.decoder.reset()
    return np.concatenate([to_frames(pipeline.decoder.decode(part)) for part in latents.split(3, dim=2)])
