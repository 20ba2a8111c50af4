"""The estimate of a run's memory against what the run itself holds on `meta` tensors, and the refusals by it."""

import pytest
import torch

from longlive_core.config import ModelConfig, StreamConfig
from longlive_core.engine.shot import Shot
from longlive_core.model import CausalWan, WanModel
from longlive_core.run import memory
from longlive_core.run.memory import NotEnoughMemory, available_memory, estimate, free_memory, shortage_explained
from longlive_core.timeline import parse
from longlive_core.vae import StreamingDecoder, WanVAE
from tests.tracing import Peak

WAN = ModelConfig(dim=1536, ffn_dim=8960, num_heads=12, num_layers=1)  # the real width; layers do not add to a pass
SIZE = (832, 480)
STREAMS = {
    "longlive": StreamConfig(),
    "relative": StreamConfig(positions="relative"),
    "refreshed": StreamConfig(sink_policy="refreshed"),
    "no window": StreamConfig(window=-1, sink=0),
    "framewise": StreamConfig(window=6, sink=2, chunk=1),
}


def unused(q, k, v):
    """Attention without its quadratic table, as flash attention has it."""
    return torch.empty_like(q)


class NoNoise:
    def draw(self, chunk, step, shape):
        return torch.empty(shape, device="meta")


@pytest.fixture(scope="module")
def wan():
    with torch.device("meta"):
        model, vae = WanModel(WAN).bfloat16(), WanVAE().bfloat16()
    return CausalWan(model.requires_grad_(False), WAN, unused), StreamingDecoder(vae.requires_grad_(False))


def check_memory(model, decoder, plan, stream, size):
    need = estimate(model, decoder, plan, stream, size)
    need.check(available_memory(model.device, need), "cpu")
    return need


def plan_of(stream, text="0s a\n5s b", seconds=8):
    return parse(text).plan(seconds, chunk=stream.chunk)


def traced(wan, plan, stream):
    """(bytes of the cache, the most that is alive beside cache and weights) of the run itself."""
    model, decoder = wan
    decoder.reset()
    latent = (SIZE[1] // 8, SIZE[0] // 8)
    context = torch.empty(1, 512, WAN.text_dim)
    shot = Shot(model, stream, latent, batch=1, capacity=plan.longest_shot * plan.chunk)
    starts = {segment.start_chunk: segment.transition for segment in plan.segments}
    with Peak() as peak:
        for index in range(plan.chunks):
            if index in starts:
                shot.switch(context, starts[index] if index else "cut", lambda step: None)
            decoder.decode(shot.next_chunk(NoNoise(), lambda step: None))
    return shot.cache.nbytes, peak.peak


@pytest.mark.slow
@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_the_estimate_is_a_close_lower_bound(wan, stream):
    """Forbids false alarms (an estimate above what the run holds) and one so low that it never speaks."""
    plan = plan_of(stream, "0c a\n6c b", seconds=7 * 12 / 16 if stream.chunk == 3 else 7 * 4 / 16)
    need = estimate(*wan, plan, stream, SIZE)
    cache, beside = traced(wan, plan, stream)
    assert need.cache == cache
    assert 0.9 * beside < need.vae + need.work <= beside
    assert need.weights == sum(p.nbytes for part in wan for p in part.module.parameters())


def test_a_late_recache_costs_only_what_it_reads(wan):
    """Forbids counting a whole window for a recache that comes after three frames."""
    stream = StreamConfig(positions="relative")
    small = StreamingDecoder(WanVAE(dim=1).requires_grad_(False))  # so that the pass is what counts
    early = estimate(wan[0], small, plan_of(stream, "0c a\n1c b"), stream, SIZE)
    late = estimate(wan[0], small, plan_of(stream, "0c a\n6c b"), stream, SIZE)
    cut = estimate(wan[0], small, plan_of(stream, "0c a\n6c b {cut}"), stream, SIZE)
    after_cut = estimate(wan[0], small, plan_of(stream, "0c a\n6c b {cut}\n7c c"), stream, SIZE)
    assert early.work == cut.work == after_cut.work < late.work


def test_without_a_window_the_longest_shot_counts(wan):
    """Forbids a cache for the whole film where cuts divide it, and one for a segment where only prompts change."""
    stream = StreamConfig(window=-1, sink=0)
    cases = {"0c a\n2c b\n5c c": (0, 9), "0c a\n2c b {cut}\n4c c": (2, 9), "0c a\n5c b {cut}\n6c c {cut}": (0, 5)}
    for text, (start, end) in cases.items():
        plan = plan_of(stream, text, seconds=6)
        assert plan.longest_shot == min(end, plan.chunks) - start
        assert estimate(*wan, plan, stream, SIZE).frames == 3 * plan.longest_shot


def test_no_alarm_with_the_pocket_model():
    """Forbids a refusal in normal use: the built-in model on any machine that runs the tests."""
    config = ModelConfig(dim=256, ffn_dim=768, num_heads=2, num_layers=6)
    model = CausalWan(WanModel(config).requires_grad_(False))
    decoder = StreamingDecoder(WanVAE(dim=16).requires_grad_(False))
    stream = StreamConfig(positions="relative")
    need = check_memory(model, decoder, plan_of(stream, seconds=3600), stream, (128, 80))
    assert need.total < 0.5e9


def test_the_refusal_gives_both_numbers_and_what_to_lower(wan, monkeypatch):
    """Forbids an allocator's error after minutes of loading, and advice that does not fit the settings."""
    stream = StreamConfig(window=-1, sink=0)
    monkeypatch.setattr(memory, "free_memory", lambda device: 3_000_000_000)
    with pytest.raises(NotEnoughMemory) as error:
        check_memory(*wan, plan_of(stream, seconds=20), stream, SIZE)
    text = str(error.value)
    need = estimate(*wan, plan_of(stream, seconds=20), stream, SIZE)
    assert f"at least {need.total / 1e9:.1f} GB" in text and "keys and values of 81 latent frames 776 MB" in text
    assert f"has {(3e9 + need.weights) / 1e9:.1f} GB" in text
    assert "Lower the window (it is -1" in text and "width and height" in text
    with pytest.raises(NotEnoughMemory) as error:
        check_memory(*wan, plan_of(StreamConfig()), StreamConfig(), SIZE)
    assert "Lower width and height" in str(error.value)


def test_enough_and_unknown_are_no_alarm(wan, monkeypatch):
    """Forbids a refusal where the free memory is unknown, or where it just suffices."""
    plan = plan_of(StreamConfig())
    run = estimate(*wan, plan, StreamConfig(), SIZE).run
    for free in (None, run):
        monkeypatch.setattr(memory, "free_memory", lambda device, free=free: free)
        check_memory(*wan, plan, StreamConfig(), SIZE)
    monkeypatch.setattr(memory, "free_memory", lambda device: run - 1)
    with pytest.raises(NotEnoughMemory):
        check_memory(*wan, plan, StreamConfig(), SIZE)


def test_free_memory_of_this_machine():
    """Forbids a reader of /proc/meminfo that reads kilobytes as bytes, and guesses for devices it does not know."""
    free = free_memory(torch.device("cpu"))
    assert free is None or 50e6 < free < 100e12
    assert free_memory(torch.device("meta")) is None


def test_an_allocation_that_fails_all_the_same_is_explained(wan):
    """Forbids PyTorch's own words as the last ones, and an explanation for errors of another kind."""
    need = estimate(*wan, plan_of(StreamConfig()), StreamConfig(), SIZE)
    with pytest.raises(NotEnoughMemory) as error, shortage_explained(need, torch.device("cpu")):
        torch.empty(1 << 50)
    assert "cpu ran out of memory: the run needs" in str(error.value) and "Lower width and height" in str(error.value)
    with pytest.raises(RuntimeError, match="size of tensor"), shortage_explained(need, torch.device("cpu")):
        torch.empty(2) + torch.empty(3)
