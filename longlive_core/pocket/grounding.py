"""The auxiliary task of the transformer's training: from every noisy token, predict its prompt and its place.

Without it, a small model learns very slowly to read the prompt: at pure noise, the gradient of the picture reaches the
cross-attention only through a prediction that is still wrong everywhere. In two probes of a model trained without it,
100 % of the hidden states contained the setting, and colours were at chance. So linear heads on early blocks predict
the prompt's attributes directly, and also the token's place, which relative rotary positions alone do not reveal. The
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

PROMPT_BLOCK, PLACE_BLOCK = 1, 2  # the blocks whose output the heads read


class WatchedWan(CausalWan):
    """The causal forward, which keeps the output of the blocks that the heads read in `watched`."""

    watched: dict[int, Tensor]

    def _block(self, layer: int, *given) -> Tensor:
        x = super()._block(layer, *given)
        if layer == 0:
            self.watched = {}
        if layer in (PROMPT_BLOCK, PLACE_BLOCK):
            self.watched[layer] = x
        return x


class Grounding(nn.Module):
    """Linear heads: one per attribute of the prompt, and one each for a token's frame in its chunk, row and column.

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

    def forward(self, watched: dict[int, Tensor], requested: Sequence[Attributes], clean: int) -> tuple[Tensor, float]:
        """Return the mean cross-entropy of all heads, and their mean share of right answers.

        Args:
            watched: [B, L, D] by block.
            requested: what the prompt of each clip's noisy part requests.
            clean: number of tokens of the clean part, which the heads skip; whole chunks follow it.
        """
        hidden = {layer: F.layer_norm(x[:, clean:], x.shape[-1:]) for layer, x in watched.items()}
        losses, right = [], []
        for field, head in self.prompt.items():
            answer = head(hidden[PROMPT_BLOCK]).float()
            names = list(world.TABLES[field])
            label = torch.tensor([names.index(getattr(attributes, field)) for attributes in requested])[:, None]
            losses.append(F.cross_entropy(answer.flatten(0, 1), label.expand(answer.shape[:2]).flatten()))
            right.append(float((answer.argmax(-1) == label).float().mean()))
        for axis, head in self.place.items():
            answer = head(hidden[PLACE_BLOCK]).float()
            label = self.places[axis].repeat(answer.shape[1] // len(self.places[axis]))
            losses.append(F.cross_entropy(answer.flatten(0, 1), label.repeat(len(answer))))
            right.append(float((answer.argmax(-1) == label).float().mean()))
        return torch.stack(losses).mean(), sum(right) / len(right)
