"""Turn planned prompts into the rollout's input: embeddings, mixed during a blend, and noise.

The keys and values of an embedding are computed in `shot.py` (`Shot.switch`).
"""

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
    """Return one span per prompt.

    A mix is linear in the embeddings, token by token; after the end of a prompt there are zeros. Embeddings are cut to
    `TEXT_LENGTH` tokens, the length that the model was trained with.
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


RECENT = 32  # embeddings, 8 MB each from a text encoder that pads to 512 tokens


class PromptEmbeddings:
    """The embeddings of a film's prompts, computed at the first use; each text is encoded once.

    Of texts that are not in `texts`, the last RECENT are kept, because new prompts may arrive during the whole render.

    Args:
        encode: texts -> embedding of each, such as `Pipeline.encode`.
        texts: the texts to encode at the first use.
        known: embeddings that exist already.
    """

    def __init__(
        self,
        encode: Callable[[Iterable[str]], dict[str, Tensor]],
        texts: Iterable[str] = (),
        known: Mapping[str, Tensor] | None = None,
    ):
        self._encode, self._expected = encode, list(texts)
        self._known = dict(known or {})
        self._recent: dict[str, Tensor] = {}  # newest last

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
