"""Films of the pocket model for people and for the judge: a batch of prompts, or a timeline.

Shapes: B films rendered together, T frames.
"""

import numpy as np
import torch

from ..config import StreamConfig, Transition
from ..engine.noise import AddressedNoise
from ..engine.prompts import PromptEmbeddings, prompt_spans
from ..engine.rollout import rollout
from ..engine.shot import PromptSpan
from ..film.decoding import to_frames
from ..run.pipeline import Pipeline
from ..timeline import parse
from ..toybox import FPS, HEIGHT, WIDTH

LATENT_SIZE = (HEIGHT // 8, WIDTH // 8)


@torch.no_grad()
def render_prompts(
    pipeline: Pipeline,
    prompts: list[tuple[int, list[str]]],
    chunks: int,
    seeds: list[int],
    transition: Transition = "recache",
    stream: StreamConfig | None = None,
) -> list[np.ndarray]:
    """Render B films in one batch, uint8 [T, 80, 128, 3] each.

    Args:
        prompts: (first chunk, one text per film), in order; later ones take effect by `transition`.
        chunks: length of the films.
        seeds: of each film's noise.
        stream: window, sink and so on; by default those of the pipeline.
    """
    contexts = [torch.cat([pipeline.encode([text])[text] for text in texts]) for _, texts in prompts]
    spans = [PromptSpan(first, context, transition) for (first, _), context in zip(prompts, contexts, strict=True)]
    parts = rollout(pipeline.model, spans, chunks, LATENT_SIZE, stream or pipeline.stream, AddressedNoise(seeds))
    rendered = list(parts)
    latents = torch.cat([chunk.latents for chunk in rendered], dim=2)
    cuts = [chunk.index for chunk in rendered if chunk.first_of_shot] + [chunks]
    return [
        np.concatenate(
            [
                _decode(pipeline, latents[film : film + 1, :, 3 * first : 3 * end])
                for first, end in zip(cuts, cuts[1:], strict=False)
            ]
        )
        for film in range(len(seeds))
    ]


@torch.no_grad()
def render_timeline(
    pipeline: Pipeline, text: str, seconds: float, seed: int
) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """Render a timeline: its film, and (first frame, text) of its segments."""
    plan = parse(text).plan(seconds, fps=FPS, chunk=pipeline.stream.chunk)
    spans = prompt_spans(plan.prompts, PromptEmbeddings(pipeline.encode, plan.texts))
    parts = rollout(pipeline.model, spans, plan.chunks, LATENT_SIZE, pipeline.stream, AddressedNoise(seed))
    latents = torch.cat([chunk.latents for chunk in parts], dim=2)
    return _decode(pipeline, latents), [(s.start_frame, s.text) for s in plan.segments]


def _decode(pipeline: Pipeline, latents: torch.Tensor) -> np.ndarray:
    pipeline.decoder.reset()
    return np.concatenate([to_frames(pipeline.decoder.decode(part)) for part in latents.split(3, dim=2)])
