"""From planned prompts to what the rollout takes: embeddings, mixed where a prompt blends in, and noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor

from ..config import TEXT_LENGTH
from ..timeline import PlannedPrompt
from .noise import AddressedNoise
from .shot import PromptSpan

ContextOf = Callable[[str], Tensor]
"""A prompt's text -> its embedding [1, tokens, text_dim]."""


def prompt_spans(prompts: Sequence[PlannedPrompt], context_of: ContextOf) -> list[PromptSpan]:
    """One span a prompt. A mix is linear in the embeddings, token by token; behind a prompt's end stand zeros.

    No embedding is longer than the model was trained with: what is behind `TEXT_LENGTH` tokens is left out.
    """
    return [
        PromptSpan(
            prompt.start_chunk,
            _mixed(prompt.mix, context_of),
            prompt.transition,
            None if prompt.seed is None else AddressedNoise(prompt.seed),
        )
        for prompt in prompts
    ]


def _mixed(mix: Sequence[tuple[str, float]], context_of: ContextOf) -> Tensor:
    contexts = [_cut(context_of(text)) for text, _ in mix]
    if len(mix) == 1:
        return contexts[0]
    longest = max(context.shape[1] for context in contexts)
    return sum(
        weight * F.pad(context.float(), (0, 0, 0, longest - context.shape[1]))
        for context, (_, weight) in zip(contexts, mix, strict=True)
    )


def _cut(context: Tensor) -> Tensor:
    return context if context.shape[1] <= TEXT_LENGTH else context[:, :TEXT_LENGTH]


RECENT = 32  # of a text encoder that pads to 512 tokens, 8 MB each


class PromptEmbeddings:
    """Embeddings of a film's prompts, made when the first is asked for; each text is encoded once.

    Of texts that nobody named before, the last RECENT are kept: prompts may come for as long as a film is rendered.

    Args:
        encode: texts -> embedding of each, such as `Pipeline.encode`.
        texts: what will be asked for.
        known: embeddings that are there already.
    """

    def __init__(
        self,
        encode: Callable[[Iterable[str]], dict[str, Tensor]],
        texts: Iterable[str] = (),
        known: Mapping[str, Tensor] | None = None,
    ):
        self._encode, self._expected = encode, list(texts)
        self._known = dict(known or {})
        self._recent: dict[str, Tensor] = {}  # the last one last

    def __call__(self, text: str) -> Tensor:
        if text in self._known:
            return self._known[text]
        if text not in self._recent:
            expected, self._expected = dict.fromkeys(self._expected), []
            encoded = self._encode([new for new in dict.fromkeys([text, *expected]) if new not in self._known])
            self._known |= {new: context for new, context in encoded.items() if new in expected}
            if text in self._known:
                return self._known[text]
            self._recent[text] = encoded[text]
            while len(self._recent) > RECENT:
                del self._recent[next(iter(self._recent))]
        return self._recent[text]
