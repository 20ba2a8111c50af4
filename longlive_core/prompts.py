"""From planned prompts to what the rollout takes: embeddings, mixed where a prompt blends in, and noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor

from .noise import AddressedNoise
from .rollout import PromptSpan
from .text import TEXT_LENGTH
from .timeline import PlannedPrompt

ContextOf = Callable[[str], Tensor]
"""A prompt's text -> its embedding [1, tokens, text_dim]."""


def prompt_spans(prompts: Sequence[PlannedPrompt], context_of: ContextOf) -> list[PromptSpan]:
    """One span a prompt. A mix is linear in the embeddings, token by token; behind a prompt's end stand zeros.

    No embedding is longer than the model was trained with: what is behind `TEXT_LENGTH` tokens is left out.
    """
    return [
        PromptSpan(prompt.start_chunk, _mixed(prompt.mix, context_of), prompt.transition,
                   None if prompt.seed is None else AddressedNoise(prompt.seed))
        for prompt in prompts
    ]  # fmt: skip


def _mixed(mix: Sequence[tuple[str, float]], context_of: ContextOf) -> Tensor:
    contexts = [_cut(context_of(text)) for text, _ in mix]
    if len(mix) == 1:
        return contexts[0]
    longest = max(context.shape[1] for context in contexts)
    return sum(weight * F.pad(context.float(), (0, 0, 0, longest - context.shape[1]))
               for context, (_, weight) in zip(contexts, mix, strict=True))  # fmt: skip


def _cut(context: Tensor) -> Tensor:
    return context if context.shape[1] <= TEXT_LENGTH else context[:, :TEXT_LENGTH]


class Contexts:
    """Embeddings of a film's prompts, made when the first is asked for; each text is encoded once.

    Args:
        encode: texts -> embedding of each, such as `Pipeline.encode`.
        texts: what will be asked for.
        known: embeddings that are there already.
    """

    def __init__(self, encode: Callable[[Iterable[str]], dict[str, Tensor]], texts: Iterable[str] = (),
                 known: Mapping[str, Tensor] | None = None):  # fmt: skip
        self._encode, self._expected = encode, list(texts)
        self._known = dict(known or {})

    def __call__(self, text: str) -> Tensor:
        if text not in self._known:
            wanted = dict.fromkeys([text, *self._expected])
            self._known |= self._encode([text for text in wanted if text not in self._known])
        return self._known[text]
