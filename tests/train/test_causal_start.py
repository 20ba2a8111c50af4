"""From the bidirectional teacher to a student that films chunk by chunk."""

import pytest
import torch

from longlive_core.config import StreamConfig
from longlive_core.train.causal_start.losses import Consistency, ForcedClips, autoregressive_loss, levels
from longlive_core.train.distillation.self_forcing import nothing

from .conftest import student_shot, texts, tiny

STREAM = StreamConfig(positions="relative")


def clips(seed: int = 0, batch: int = 1) -> ForcedClips:
    return ForcedClips(torch.randn(batch, 16, 18, 4, 4, generator=torch.Generator().manual_seed(seed)), STREAM)


def test_a_forced_chunk_is_what_the_rollout_sees():
    """Forbids a causal start that learns from another context than the sampler has."""
    model, forced = tiny(1), clips()
    noisy, times = torch.randn(1, 16, 18, 4, 4), torch.tensor([[900.0, 100.0, 500.0, 700.0, 300.0, 625.0]])
    with torch.no_grad():
        together = forced.velocity(model, noisy, times, model.prompt_keys(texts(2))).split(3, dim=2)
        shot = student_shot(model, window=12)
        shot.switch(texts(2), "cut", nothing)
        for index, clean in enumerate(forced.clean.split(3, dim=2)):
            part = noisy.split(3, dim=2)[index]
            alone = shot._pass(part, float(times[0, index]), shot.cache.next_chunk(), shot.frames)
            torch.testing.assert_close(together[index], alone, rtol=1e-4, atol=1e-5)
            shot.feed(clean)


def test_a_chunk_does_not_see_what_comes_after_it():
    """Forbids a mask that lets the future in."""
    model, one, two = tiny(1), clips(), clips()
    two.clean[:, :, 9:] += 1.0
    noisy, times = torch.randn(1, 16, 18, 4, 4), torch.full((1, 6), 500.0)
    other = noisy.clone()
    other[:, :, 9:] -= 1.0
    with torch.no_grad():
        keys = model.prompt_keys(texts(2))
        a, b = one.velocity(model, noisy, times, keys), two.velocity(model, other, times, keys)
    assert torch.equal(a[:, :, :9], b[:, :, :9])
    assert not torch.equal(a[:, :, 9:], b[:, :, 9:])


@pytest.mark.slow
def test_flow_matching_learns_a_clip():
    """Forbids a loss whose minimum is not the velocity."""
    model, forced = tiny(1), clips()
    adam = torch.optim.Adam(model.module.parameters(), lr=3e-3)
    noise, times = torch.randn(1, 16, 18, 4, 4), torch.full((1, 6), 800.0)
    losses = []
    for _ in range(60):
        loss = autoregressive_loss(model, forced, noise, times, model.prompt_keys(texts(2)))
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


class Straight:
    """Replaces a model; its velocity is exact: noise - clean, which is (noisy - clean) / sigma."""

    def __init__(self, model, clean):
        self.model, self.clean = model, clean
        self.config, self.device, self.dtype = model.config, model.device, model.dtype

    def prompt_keys(self, context):
        return None

    def velocity(self, latents, timestep, prompt, attend):
        context = latents.shape[2] - self.clean.shape[2]
        sigma = (timestep[:, context:] / 1000).clamp(min=1e-9)[:, None, :, None, None]
        right = (latents[:, :, context:] - self.clean) / sigma
        return torch.cat([torch.zeros_like(latents[:, :, :context]), right], dim=2)


def test_a_student_on_a_straight_path_is_consistent():
    """Forbids a target at another level, or an Euler step of another sign or length."""
    forced = clips()
    right = Straight(tiny(1), forced.clean)
    places = torch.tensor([[0, 5, 11, 30, 40, 47]])
    noise = torch.randn(1, 16, 18, 4, 4)
    loss = Consistency(right, right, STREAM).loss(right, forced, noise, places, texts(2), texts(3))
    assert float(loss) < 1e-8
    wrong = Straight(tiny(1), forced.clean + 1)
    assert float(Consistency(right, right, STREAM).loss(wrong, forced, noise, places, texts(2), texts(3))) > 0.5


def test_only_the_student_gets_a_gradient():
    """Forbids a consistency loss that pulls its target along."""
    student, teacher, target = tiny(1), tiny(2), tiny(3)
    places = torch.randint(48, (1, 6))
    loss = Consistency(teacher, target, STREAM)
    loss.loss(student, clips(), torch.randn(1, 16, 18, 4, 4), places, texts(2), texts(3)).backward()
    assert all(p.grad is None for m in (teacher, target) for p in m.module.parameters())
    assert sum(float(p.grad.abs().sum()) for p in student.module.parameters() if p.grad is not None) > 0


def test_levels_hold_the_students_steps():
    """Forbids a student that is never trained at the levels where it is used."""
    assert levels(4, 5.0) == (1000.0, 937.5, 2500 / 3, 625.0, 0.0)
    with pytest.raises(ValueError, match="denoising step 750 is none of 7 even steps"):
        Consistency(tiny(1), tiny(1), STREAM, steps=7)
