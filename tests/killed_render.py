"""A render for test_takes_killed.py, in a process of its own: renders a take of a tiny model, tells every pass.

python -m tests.killed_render FOLDER CHUNKS
"""

import sys

import torch

from longlive_core.config import StreamConfig
from longlive_core.film.video import Encoding
from longlive_core.model import CausalWan, WanModel
from longlive_core.takes import Observer, Origin, TakeStore, VaeIdentity, open_take, render_take
from longlive_core.timeline import parse
from longlive_core.vae import StreamingDecoder, WanVAE
from tests.conftest import LATENT_SIZE, TINY

SIZE = (LATENT_SIZE[1] * 8, LATENT_SIZE[0] * 8)
TEXT = "0c a\n5c b\n9c c {keep}\n14c a"


class Printing(Observer):
    def step(self, chunk, step):
        print("pass", chunk, flush=True)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = CausalWan(WanModel(TINY).requires_grad_(False), TINY)
    decoder = StreamingDecoder(WanVAE(dim=4).requires_grad_(False))
    contexts = {text: torch.randn(1, 5, TINY.text_dim) * 2 for text in "abc"}
    plan = parse(TEXT).plan((12 * int(sys.argv[2]) - 3) / 16)
    origin = Origin("model", "text", "float32", StreamConfig(), SIZE, 3)
    take = open_take(TakeStore(sys.argv[1]), TEXT, plan, origin, Encoding(*SIZE), VaeIdentity("vae", "float32", 4))
    print("reused", take.reused, flush=True)
    render_take(
        take,
        model,
        decoder,
        contexts.__getitem__,
        lambda take: {},
        Printing(),
    )
    print("film", take.film_path, flush=True)


if __name__ == "__main__":
    main()
