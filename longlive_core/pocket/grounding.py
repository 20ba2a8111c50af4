"""The auxiliary task of the transformer's training: every noisy token tells what is asked and where it is.

Without it, a small model learns very slowly to read the prompt: at pure noise, the gradient of the picture reaches the
cross-attention only through an answer that is still wrong everywhere. Two probes of a model trained without it showed
settings in 100 % of the hidden states and colours at chance. So linear heads on early blocks ask for the prompt's
attributes directly, and for the token's place, which rotary positions alone (they are relative) do not give away. The
heads are dropped after training.

Shapes: B clips, L tokens, D width.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..model import CausalWan
from ..toybox import world
from ..toybox.world import Attributes

PROMPT_BLOCK, PLACE_BLOCK = 1, 2  # after which block each is asked


class WatchedWan(CausalWan):
    """The causal forward; what leaves the blocks the heads look at is kept in `watched`."""

    watched: dict[int, Tensor]

    def _block(self, layer: int, *given) -> Tensor:
        x = super()._block(layer, *given)
        if layer == 0:
            self.watched = {}
        if layer in (PROMPT_BLOCK, PLACE_BLOCK):
            self.watched[layer] = x
        return x


class Grounding(nn.Module):
    """Linear heads: one for each attribute of the prompt, and one each for a token's frame in its chunk, row, column.

    Args:
        dim: D of the transformer.
        grid: (frames, rows, columns) of a chunk's tokens.
    """

    def __init__(self, dim: int, grid: tuple[int, int, int]):
        super().__init__()
        self.prompt = nn.ModuleDict({field: nn.Linear(dim, len(table)) for field, table in world.TABLES.items()})
        self.place = nn.ModuleDict({axis: nn.Linear(dim, size) for axis, size in zip("tyx", grid, strict=True)})
        places = torch.meshgrid(*(torch.arange(size) for size in grid), indexing="ij")
        self.places = {axis: place.flatten() for axis, place in zip("tyx", places, strict=True)}

    def forward(self, watched: dict[int, Tensor], asked: Sequence[Attributes], clean: int) -> tuple[Tensor, float]:
        """The mean cross-entropy of all heads, and their mean share of right answers.

        Args:
            watched: [B, L, D] by block.
            asked: what each clip's noisy part is asked for.
            clean: tokens of the clean part, which is not asked; whole chunks follow it.
        """
        hidden = {layer: F.layer_norm(x[:, clean:], x.shape[-1:]) for layer, x in watched.items()}
        losses, right = [], []
        for field, head in self.prompt.items():
            answer = head(hidden[PROMPT_BLOCK]).float()
            names = list(world.TABLES[field])
            label = torch.tensor([names.index(getattr(look, field)) for look in asked])[:, None]
            losses.append(F.cross_entropy(answer.flatten(0, 1), label.expand(answer.shape[:2]).flatten()))
            right.append(float((answer.argmax(-1) == label).float().mean()))
        for axis, head in self.place.items():
            answer = head(hidden[PLACE_BLOCK]).float()
            label = self.places[axis].repeat(answer.shape[1] // len(self.places[axis]))
            losses.append(F.cross_entropy(answer.flatten(0, 1), label.repeat(len(answer))))
            right.append(float((answer.argmax(-1) == label).float().mean()))
        return torch.stack(losses).mean(), sum(right) / len(right)
