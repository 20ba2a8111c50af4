"""Config, cache, schedule, noise, rotary and the forward, each alone."""

import pytest
import torch

from longlive_core.config import PRESETS, ModelConfig, StreamConfig
from longlive_core.engine.cache import RollingCache
from longlive_core.engine.noise import AddressedNoise
from longlive_core.engine.schedule import add_noise, clean_sample, warp
from longlive_core.model import Rotary, WanModel
from longlive_core.model.attention import default_attention, sdpa
from longlive_core.model.rotary import apply
from tests.conftest import LATENT_SIZE, TINY


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 5}, "window 5, sink 3, chunk 3.*at least 6"),
        ({"window": 13}, r"window - sink \(10\) must be multiples"),
        ({"sink": 2, "window": 11}, "sink 2.*multiples"),
        ({"window": -1}, "sink must be 0"),
        ({"chunk": 0}, "chunk must be at least 1"),
        ({"sink": -3}, "sink at least 0"),
        ({"sink_policy": "drop"}, "'drop'.*held and refreshed"),
        ({"positions": "roman"}, "'roman'.*absolute and relative"),
        ({"denoising_steps": (750, 500)}, "fall from 1000"),
        ({"denoising_steps": (1000, 500, 500)}, "fall from 1000"),
        ({"denoising_steps": (1000, 0)}, "stay above 0"),
        ({"shift": 0.0}, "shift 0.0"),
        ({"context_noise": 1000}, "0 to 999"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused_with_their_numbers(settings, message):
    with pytest.raises(ValueError, match=message):
        StreamConfig(**settings)


def test_presets_are_the_published_settings():
    assert (PRESETS["longlive-1.3b"].window, PRESETS["longlive-1.3b"].sink) == (12, 3)
    assert (PRESETS["self-forcing"].window, PRESETS["self-forcing"].sink) == (-1, 0)
    assert StreamConfig.even_steps(4) == (1000, 750, 500, 250)


def test_schedule_has_the_papers_timesteps():
    assert [round(warp(step, 5.0), 1) for step in (1000, 750, 500, 250)] == [1000.0, 937.5, 833.3, 625.0]


def test_velocity_and_clean_sample_are_inverse():
    clean, noise = torch.randn(2, 3), torch.randn(2, 3)
    assert torch.allclose(clean_sample(add_noise(clean, noise, 625.0), noise - clean, 625.0), clean, atol=1e-6)


def test_noise_is_a_function_of_its_address_alone():
    shape = (1, 16, 3, 4, 6)
    noise = AddressedNoise(7)
    late_first = noise.draw(5, 1, shape)
    noise.draw(0, 0, shape)
    assert torch.equal(noise.draw(5, 1, shape), late_first)
    others = [AddressedNoise(8).draw(5, 1, shape), noise.draw(5, 2, shape), noise.draw(6, 1, shape)]
    for other in others:
        assert abs(torch.corrcoef(torch.stack([late_first.flatten(), other.flatten()]))[0, 1]) < 0.15
    assert torch.equal(AddressedNoise([8, 7]).draw(5, 1, (2, *shape[1:]))[1:], late_first)


def test_noise_of_an_address_never_changes_between_versions():
    """Stored takes rely on it: equal addresses must give these numbers forever."""
    drawn = AddressedNoise(2026).draw(3, 1, (1, 16, 3, 4, 6)).flatten()
    assert drawn[:4].tolist() == pytest.approx([-0.014097, 0.795862, 0.294289, -0.118862], abs=1e-6)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(ValueError, match="allowed are 0 to"):
        AddressedNoise(seed)


def test_rotary_is_a_rotation_by_position_in_each_axis():
    """Scores depend on differences of positions only, and a shift along any axis changes them."""
    rotary = Rotary(24, (2, 3), torch.device("cpu"))
    q, k = torch.randn(1, 6, 1, 24), torch.randn(1, 6, 1, 24)

    def scores(first, second):
        return torch.einsum("blnd,bmnd->blm", apply(q, rotary.table([first])), apply(k, rotary.table([second])))

    assert torch.allclose(scores(3, 1), scores(9, 7), atol=1e-5)
    assert not torch.allclose(scores(3, 1), scores(4, 1), atol=1e-2)
    rotated = apply(q, rotary.table([5]))
    assert torch.allclose(rotated.norm(dim=-1), q.norm(dim=-1), atol=1e-5)


def walk(cache, chunks):
    """Commit some chunks, tagging every slot with the frame that was written there."""
    for _ in range(chunks):
        span = cache.next_chunk()
        tags = torch.arange(walk.frame, walk.frame + span.frames).view(1, -1, 1, 1).float()
        cache.write(0, span, tags, -tags)
        cache.commit(span)
        walk.frame += span.frames


def small_cache(window=12, sink=3, chunk=3):
    walk.frame = 0
    return RollingCache(
        layers=1,
        batch=1,
        window=window,
        sink=sink,
        chunk=chunk,
        tokens=1,
        heads=1,
        head_dim=1,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )


def seen(cache):
    """Frames the next chunk sees, oldest first by the span's positions (its own slots left out)."""
    span = cache.next_chunk()
    keys = cache.visible(0, span)[0].flatten().tolist()
    in_time = sorted(zip(span.positions, range(span.visible), keys, strict=True))
    own = range(span.start, span.start + span.frames)
    return [int(key) for _, slot, key in in_time if slot not in own], span.own_positions


@pytest.mark.parametrize("chunks", range(12))
def test_a_chunk_sees_the_sink_and_the_window_in_time_order(chunks):
    cache = small_cache()
    walk(cache, chunks)
    total = chunks * 3
    recent = range(max(3, total - 6), total)
    frames, own = seen(cache)
    assert frames == [*range(min(total, 3)), *recent]
    assert own == tuple(range(len(frames), len(frames) + 3))


def test_a_refreshed_rebuild_moves_the_sink_and_the_ring_turns_on_from_there():
    cache = small_cache()
    walk(cache, 8)
    span = cache.rebuild(24, hold_sink=False)
    assert (span.start, span.frames, span.visible) == (0, 12, 12)
    tags = torch.arange(12, 24).view(1, -1, 1, 1).float()
    cache.write(0, span, tags, tags)
    cache.commit(span)
    assert seen(cache)[0] == [12, 13, 14, 18, 19, 20, 21, 22, 23]


def test_a_held_rebuild_leaves_the_sink_alone():
    cache = small_cache()
    walk(cache, 8)
    span = cache.rebuild(24, hold_sink=True)
    assert (span.start, span.frames) == (3, 9)
    early = small_cache()
    walk(early, 4)
    assert early.rebuild(12, hold_sink=True).start == 0  # the window still reaches the start: rewritten all the same


def test_committing_a_stale_span_is_refused():
    cache = small_cache()
    stale = cache.next_chunk()
    cache.next_chunk()
    with pytest.raises(RuntimeError, match="returned last"):
        cache.commit(stale)


def test_visible_is_a_view_not_a_copy():
    cache = small_cache()
    span = cache.next_chunk()
    cache.visible(0, span)[0].fill_(7)
    assert cache.visible(0, span)[0].eq(7).all()


def attend_within(layer, q, k, v):
    return sdpa(q, k, v)


def test_a_timestep_per_frame_equals_one_for_all_when_they_are_equal(tiny_model, contexts):
    latents = torch.randn(1, 16, 3, *LATENT_SIZE)
    prompt = tiny_model.prompt_keys(contexts[0])
    one = tiny_model.velocity(latents, 625.0, prompt, attend_within)
    many = tiny_model.velocity(latents, torch.full((1, 3), 625.0), prompt, attend_within)
    assert torch.allclose(one, many, atol=1e-5)
    mixed = tiny_model.velocity(latents, torch.tensor([[0.0, 625.0, 625.0]]), prompt, attend_within)
    assert (mixed - one).abs().max() > 1e-2


def test_each_run_of_frames_can_have_its_own_prompt(tiny_model, contexts):
    """Training relies on it. Without attention between the runs, both must be what each prompt gives alone."""
    latents = torch.randn(1, 16, 2, *LATENT_SIZE)
    tokens = TINY.tokens_per_frame(LATENT_SIZE)

    def apart(layer, q, k, v):
        parts = slice(0, tokens), slice(tokens, None)
        return torch.cat([sdpa(*(t[:, part] for t in (q, k, v))) for part in parts], 1)

    both = tiny_model.velocity(latents, 500.0, tiny_model.prompt_keys(torch.cat(contexts[:2])), apart)
    for frame in range(2):
        prompt = tiny_model.prompt_keys(contexts[frame])
        alone = tiny_model.velocity(latents[:, :, frame : frame + 1], 500.0, prompt, attend_within)
        assert torch.allclose(both[:, :, frame : frame + 1], alone, atol=1e-4)


def test_shape_is_read_from_weights_and_from_a_live_module():
    module = WanModel(TINY)
    assert ModelConfig.from_state_dict(module.state_dict(), num_heads=2) == TINY
    assert ModelConfig.from_module(module) == TINY
    with pytest.raises(ValueError, match="Linear is not a Wan 2.1"):
        ModelConfig.from_module(torch.nn.Linear(1, 1))


def test_default_attention_is_sdpa_on_the_cpu():
    q, k, v = (torch.randn(1, 4, 2, 8) for _ in range(3))
    assert torch.equal(default_attention(q, k, v), sdpa(q, k, v))
