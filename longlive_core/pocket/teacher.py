"""Stage `teacher`: a bidirectional transformer of short toybox clips, the real score of the distillation.

It starts from the weights of the stage `tune`, which read prompts and draw well; what it has to learn is to look ahead,
and all timesteps. It is trained by flow matching on clips of 21 latent frames (and on first chunks alone, which show
every combination of attributes), with the prompt left out at times, for classifier-free guidance. Clips come from films
of 14 chunks and start anywhere in them: deep in a film the VAE's latents look different, and the long tuning asks about
those clips too. All of them begin with the latent of one picture, as the scores see them (`first_latent.py`). Where a
film changes its prompt in a clip's first two chunks, the clip belongs to the new prompt, so the teacher knows what a
change looks like. The text encoder stays as it is, and is the student's too.

Shapes: as in `long_clips.py`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import UMT5EncoderModel

from ..model import CausalWan, WanModel
from ..toybox.captions import caption
from ..train.bidirectional import velocity
from ..train.causal_start.teacher_forcing import matmul_attention
from ..train.distillation.first_latent import HISTORY, AsImage, image_latents
from ..train.flow_matching import noised, timesteps_of
from ..train.optimiser import MasterAdam, cosine_rate
from .clip_pool import CHUNK, Clip, ClipPool
from .language import build_tokenizer, encode_tokens, to_wan_width, tokens_of
from .long_clip_pool import LONG, LongClip, LongPool
from .train_dit import STREAM, DitRecipe, Journal, is_block_matrix
from .tune import load

CLIP_CHUNKS = 7  # 21 latent frames, as the paper's teacher sees
FULL_RANGE = (1.0, 1000.0)  # timesteps; sampling starts from pure noise


@dataclass(frozen=True)
class TeacherRecipe(DitRecipe):
    """How the teacher is trained."""

    steps: int = 800
    rate: float = 5e-4
    matrix_rate: float = 0.006
    first_clips: int = 64
    clips_per_step: float = 0.2
    batch: int = 4
    first_chunk_batch: int = 22
    first_chunk_steps: float = 0.25  # share of steps on first chunks alone
    no_prompt: float = 0.1  # share of clips whose prompt is left out


def places(clip: LongClip) -> list[int]:
    """First chunks of the clips that one prompt can stand for: none changes but in the clip's first two chunks."""
    return [
        start
        for start in range(LONG - CLIP_CHUNKS + 1)
        if not any(start + 1 < switch < start + CLIP_CHUNKS for switch in clip.switches)
    ]


def cut(clip: LongClip, start: int, as_image: AsImage) -> Clip:
    """21 latent frames of a film from chunk `start` on, under the prompt that they end with."""
    first = start * CHUNK
    frames = slice(first, first + CLIP_CHUNKS * CHUNK)
    latents, look = clip.latents[:, frames], clip.asked(start + CLIP_CHUNKS - 1)
    if start:
        before = clip.latents[None, :, max(0, first - HISTORY) : first + 1]
        latents = torch.cat([as_image(before.float())[0].to(latents), latents[:, 1:]], dim=1)
    return Clip(latents, clip.weight[frames], look, look, 0)


class Cuts:
    """Clips of a pool's films by their place; each is made once."""

    def __init__(self, pool: LongPool):
        self.pool, self.as_image, self.made = pool, image_latents(pool.vae), {}

    def drawn(self, rng: np.random.Generator) -> Clip | None:
        """A clip of any film so far, or None where the film has no place for one."""
        number = int(rng.integers(len(self.pool.clips)))
        film = self.pool.clips[number]
        if not (options := places(film)):
            return None
        start = options[rng.integers(len(options))]
        if (number, start) not in self.made:
            self.made[number, start] = cut(film, start, self.as_image)
        return self.made[number, start]


class Flow:
    """The teacher's loss on batches of clips of one length."""

    def __init__(self, model: WanModel, encoder: UMT5EncoderModel, recipe: TeacherRecipe, seed: int):
        self.wan = CausalWan(model, recipe.model_config(), matmul_attention)
        self.encoder, self.recipe, self.tokenizer = encoder, recipe, build_tokenizer()
        self.rng, self.generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)

    def step(self, clips: list[Clip]) -> tuple[Tensor, dict[str, float]]:
        """The loss, and the error of the clean prediction by range of timesteps."""
        latents = torch.stack([clip.latents for clip in clips]).float()
        weight = 1 + self.recipe.subject_weight * torch.stack([clip.weight for clip in clips]).float()[:, None]
        even = torch.rand(len(clips), generator=self.generator, dtype=torch.float64)
        times = timesteps_of(even, STREAM.shift, *FULL_RANGE)
        noise = torch.randn(latents.shape, generator=self.generator)
        told = self.rng.random(len(clips)) >= self.recipe.no_prompt
        texts = [caption(clip.after, self.rng) if tell else "" for clip, tell in zip(clips, told, strict=True)]
        ids, mask = tokens_of(self.tokenizer, texts, 0.02, self.rng)
        with torch.no_grad():
            context = to_wan_width(encode_tokens(self.encoder, ids, mask))
        noisy = noised(latents, noise, times)
        flow = velocity(self.wan, noisy, times, self.wan.prompt_keys(context))
        squares = (flow - (noise - latents)).square()
        loss = (squares * weight).sum() / weight.sum() / latents.shape[1]
        return loss, self._errors(squares.detach(), weight, times)

    def _errors(self, squares: Tensor, weight: Tensor, times: Tensor) -> dict[str, float]:
        per_clip = (squares.mean(dim=1, keepdim=True) * weight).sum(dim=(1, 2, 3, 4)) / weight.sum(dim=(1, 2, 3, 4))
        clean = per_clip * (times / 1000).square()
        ranges = {low: (times >= low) & (times < high) for low, high in ((0, 600), (600, 900), (900, 1001))}
        return {str(low): float(clean[inside].mean()) for low, inside in ranges.items() if inside.any()}


def _draw(starts: ClipPool, cuts: Cuts, rng: np.random.Generator, recipe: TeacherRecipe) -> list[Clip]:
    if rng.random() < recipe.first_chunk_steps:
        return [starts.starts[n] for n in rng.choice(len(starts.starts), recipe.first_chunk_batch, replace=False)]
    clips: list[Clip] = []
    while len(clips) < recipe.batch:
        if (clip := cuts.drawn(rng)) is not None:
            clips.append(clip)
    return clips


def train(
    starts: ClipPool,
    pool: LongPool,
    folder: Path,
    seed: int,
    recipe: TeacherRecipe = TeacherRecipe(),
    start: str = "tuned.pt",
) -> Path:
    """Train the teacher from the weights in `folder/start`; write `folder/teacher.pt` (averaged, float32)."""
    torch.manual_seed(seed)
    rng = np.random.default_rng((seed, 3))
    model, encoder = load(folder / start, recipe)
    flow = Flow(model, encoder, recipe, seed)
    optimiser = MasterAdam({"dit": model}, weight_decay=0.01, average=recipe.average, ramp=True, matrix=is_block_matrix)
    text = {f"text.{name}": value.float() for name, value in encoder.state_dict().items()}
    starts.encode_starts()
    journal, cuts = Journal(), Cuts(pool)
    for step in range(recipe.steps):
        pool.grow(recipe.first_clips + int(step * recipe.clips_per_step))
        clips = _draw(starts, cuts, rng, recipe)
        loss, errors = flow.step(clips)
        loss.backward()
        share = cosine_rate(step, recipe.steps, 1.0, recipe.warmup)
        optimiser.step(share * recipe.rate, share * recipe.matrix_rate)
        kind = "first" if clips[0].latents.shape[1] == CHUNK else "clip"
        journal.note(step, float(loss.detach()), errors, kind, len(pool.clips))
        if step % 100 == 99 or step + 1 == recipe.steps:
            torch.save({"weights": optimiser.averaged() | text, "step": step + 1}, folder / "teacher.pt")
    return folder / "teacher.pt"
