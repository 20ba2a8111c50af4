"""The distillation's gradient."""

import pytest
import torch

from longlive_core.train.bidirectional import clean_clip, velocity
from longlive_core.train.distillation.dmd import ScorePrompts, Scores, dmd_direction, loss_gradient
from longlive_core.train.flow_matching import noised

from .conftest import texts, tiny


def test_direction_of_a_case_worked_out_by_hand():
    """Forbids another sign or normaliser than DMD's equations 7 and 8."""
    clean = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 2, 2)
    real = torch.tensor([0.0, 2.0, 5.0, 3.0]).view(1, 1, 1, 2, 2)  # |clean - real| = 1, 0, 2, 1: mean 1
    fake = torch.tensor([1.0, 1.0, 4.0, 4.0]).view(1, 1, 1, 2, 2)  # fake - real = 1, -1, -1, 1
    assert dmd_direction(clean, real, fake).flatten().tolist() == [1, -1, -1, 1]
    assert dmd_direction(2 * clean, 2 * real, 2 * fake).flatten().tolist() == [1, -1, -1, 1]
    two = [torch.cat([t, 3 * t]) for t in (clean, real, fake)]  # each clip by its own distance
    assert torch.equal(dmd_direction(*two)[1], dmd_direction(*two)[0])


def test_a_student_at_the_teachers_view_has_nothing_to_learn():
    """Forbids a division by zero."""
    clip = torch.ones(1, 2, 3, 2, 2)
    assert dmd_direction(clip, clip, clip + 1).eq(0).all()


def test_loss_gradient_is_that_of_the_papers_loss():
    """Forbids a gradient of another scale than that of 1/2 mse(x, stop(x - direction)) over the new frames."""
    torch.manual_seed(0)
    clip, direction = torch.randn(2, 3, 7, 2, 2, requires_grad=True), torch.randn(2, 3, 7, 2, 2)
    loss = 0.5 * torch.nn.functional.mse_loss(clip[:, :, 1:], (clip - direction).detach()[:, :, 1:])
    loss.backward()
    torch.testing.assert_close(loss_gradient(direction, 6), clip.grad[:, :, 1:])
    assert clip.grad[:, :, :1].eq(0).all()


def test_scores_use_guidance_on_the_real_one_only():
    """Forbids a critic with guidance, and a teacher without."""
    real, fake = tiny(1), tiny(2)
    prompts, times, noise = ScorePrompts(texts(3), texts(4)), torch.tensor([700.0]), torch.randn(1, 16, 6, 4, 4)
    clip = torch.randn(1, 16, 6, 4, 4)
    noisy = noised(clip, noise, times)
    with torch.no_grad():
        a, b = (clean_clip(real, noisy, times, real.prompt_keys(p)) for p in (texts(3), texts(4)))
        c = clean_clip(fake, noisy, times, fake.prompt_keys(texts(3)))
    expected = dmd_direction(clip, a + 3 * (a - b), c)
    torch.testing.assert_close(Scores(real, fake, 3.0).direction(clip, prompts, times, noise), expected)


def test_the_critic_learns_the_newest_frames_as_they_lie_in_the_clip():
    """Forbids a critic that learns the context frames of every clip a second time, and one that never sees them."""
    fake, prompts = tiny(2), ScorePrompts(texts(3), texts(4))
    clip, noise, times = torch.randn(1, 16, 6, 4, 4), torch.randn(1, 16, 6, 4, 4), torch.tensor([700.0])
    with torch.no_grad():
        predicted = velocity(fake, noised(clip, noise, times), times, fake.prompt_keys(texts(3)))
        loss = Scores(tiny(1), fake).critic_loss(clip, prompts, times, noise, 3)
    torch.testing.assert_close(loss, (predicted - (noise - clip)).square()[:, :, 3:].mean())


def test_guidance_needs_the_unconditional_prompt():
    """Forbids guidance that is dropped in silence."""
    model = tiny(1)
    with pytest.raises(ValueError, match="unconditional"), torch.no_grad():
        clean_clip(model, torch.randn(1, 16, 3, 4, 4), torch.tensor([500.0]), model.prompt_keys(texts(1)), None, 3.0)
