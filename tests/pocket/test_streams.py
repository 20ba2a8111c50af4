"""Streams: films that the model extends from its own cache while it is trained, and the excerpts of them."""

import os

import numpy as np
import pytest
import torch
from torch import nn
from transformers import UMT5EncoderModel

from longlive_core.config import ModelConfig
from longlive_core.engine.noise import AddressedNoise
from longlive_core.engine.rollout import rollout
from longlive_core.engine.shot import PromptSpan
from longlive_core.model import CausalWan, WanModel
from longlive_core.pocket import stage_stream, train
from longlive_core.pocket.clip_pool import TrainingClip
from longlive_core.pocket.curriculum import EXCERPT_KINDS, Curriculum
from longlive_core.pocket.film_pool import FILM_CHUNKS, FilmPool, PoolFilm
from longlive_core.pocket.forcing import Forcing
from longlive_core.pocket.language import encoder_config
from longlive_core.pocket.stage_stream import STREAM_CHUNKS, STREAM_PATTERNS, StreamSettings
from longlive_core.pocket.streams import Streams
from longlive_core.pocket.training import POCKET
from longlive_core.toybox import world
from longlive_core.train.causal_start.teacher_forcing import LAST_SLOT

CHUNKS, SWITCHES = 12, (6,)
CHANGE = next(kind.layout for kind in EXCERPT_KINDS if kind.name == "change")
LOOKS = [world.Attributes(colour, "ball", "rest", "sea") for colour in ("red", "blue", "green")]


@pytest.fixture(scope="module")
def wan() -> CausalWan:
    torch.manual_seed(0)
    config = ModelConfig(dim=64, ffn_dim=64, num_heads=1, num_layers=2, text_dim=8, freq_dim=32)
    model = WanModel(config).requires_grad_(False)
    nn.init.normal_(model.head.head.weight, 0, 0.1)
    nn.init.normal_(model.text_embedding[0].weight, 0, 1)
    return CausalWan(model, config)


class _Pool:
    """Two films of random latents with a change of prompt."""

    def __init__(self):
        torch.manual_seed(1)
        self.chunks = CHUNKS
        scripts = [list(zip((0, *SWITCHES), pair, strict=True)) for pair in (LOOKS[:2], LOOKS[1:])]
        self.films = [
            PoolFilm(torch.randn(16, 3 * CHUNKS, 4, 4).half(), torch.ones(3 * CHUNKS, 4, 4).half(), script)
            for script in scripts
        ]


class _Long:
    """Films of one value with the changes that every kind of excerpt needs."""

    def __init__(self):
        zeros = torch.zeros(1, 3 * FILM_CHUNKS, 1, 1).half()
        self.films = [
            PoolFilm(zeros, zeros[0], list(zip((0, *switches), LOOKS, strict=False)))
            for switches in ((), (2, 8), (3, 9), (4,), (7,))
        ]


def contexts(requested) -> torch.Tensor:
    """One text embedding for each requested look, [B, 3, 8]."""
    return torch.stack([torch.full((3, 8), float(LOOKS.index(look) + 1)).cumsum(0) for look in requested])


def _streams(wan, near) -> Streams:
    return Streams(wan, contexts, _Pool(), 2, near, np.random.default_rng(0))


def test_streams_render_what_a_rollout_renders(wan):
    """Forbids another film than at use: its steps, its cache, its recache at the change of prompt."""
    streams = _streams(wan, near=float("inf"))
    for _ in range(CHUNKS // 4):
        _, near = streams.advance(4, step=0)
        assert near == 1.0
    rng = np.random.default_rng(0)  # the same draws again: a film for the pattern, the films, their noise
    rng.integers(2)
    rng.choice(2, size=2, replace=False)
    noise = AddressedNoise([int(rng.integers(2**31)) for _ in range(2)])
    spans = [PromptSpan(at, contexts([film.requested(at) for film in streams.films])) for at in (0, *SWITCHES)]
    rolled = torch.cat([chunk.latents for chunk in rollout(wan, spans, CHUNKS, (4, 4), POCKET, noise)], dim=2)
    assert torch.equal(streams.own, rolled.half())
    assert rolled.std() > 0.1


def test_what_left_the_truth_is_replaced_by_it(wan):
    """Forbids continuing from a film that lost its subject."""
    streams = _streams(wan, near=-1.0)
    assert [streams.advance(4, step=0)[1] for _ in range(3)] == [0.0] * 3
    assert torch.equal(streams.own, streams.truth)
    assert torch.equal(
        torch.cat(list(streams.shot.recent), dim=2), streams.truth[:, :, -12:].float()
    )  # what the cache is of
    between = _streams(wan, near=1.0)
    for row in (0, 1):  # one stream is near where little is requested: no subject in sight
        between.pool.films[row].weight[:] = float(row)
    _, near = between.advance(4, step=0)
    for film, own, truth in zip(between.films, between.own, between.truth, strict=True):
        assert torch.equal(own[:, :12], truth[:, :12]) == bool(film.weight.max())
    assert near == 0.5


def _where(latents: torch.Tensor, films: torch.Tensor) -> tuple[int, int]:
    """Where an excerpt continues after the first chunk, and in which of the films."""
    wanted = latents[:, 3:]
    return next(
        (at, row)
        for row, film in enumerate(films)
        for at in range(CHUNKS)
        if torch.equal(film[:, 3 * at : 3 * at + wanted.shape[1]], wanted)
    )


def test_the_excerpts_are_the_newest_own_film(wan):
    """Forbids excerpts that are returned twice or never, or before they end, or with another film's context."""
    streams, seen = _streams(wan, near=float("inf")), []
    for step in range(6):
        excerpts, _ = streams.advance(2, step)
        for kind, cut in [(kind, cut) for kind, cuts in excerpts.items() for cut in cuts]:
            start, row = _where(cut.latents, streams.truth)
            chunks = kind.layout.chunks - 1  # behind the film's first one
            assert start + chunks - 1 in (2 * step, 2 * step + 1) and cut.rendered_at == step
            own = [streams.own[row, :, :3], streams.own[row, :, 3 * start : 3 * (start + chunks - 1)]]
            assert torch.equal(cut.own, torch.cat(own, dim=1))
            seen.append((kind.name, start))
    late = {(name, start) for name, start in seen if name == "late"}
    assert late == {("late", SWITCHES[0] - LAST_SLOT)}
    assert len(seen) == 2 * len(set(seen)) and "deep" in {name for name, _ in seen}


def test_new_streams_follow_finished_ones(wan):
    """Forbids a stream without an end, and one film's cache under another's name."""
    streams = _streams(wan, near=float("inf"))
    for _ in range(3):
        streams.advance(4, step=0)
    old = streams.own
    streams.advance(4, step=0)
    assert streams.chunk == 4 and streams.own is not old and not streams.own[:, :, 12:].any()


def test_only_fresh_excerpts_serve(wan):
    """Forbids a curriculum that keeps a worse model's films."""
    rng = np.random.default_rng(0)
    curriculum = Curriculum([], _Pool().films, rng, rng)
    streams = _streams(wan, near=float("inf"))
    for step in range(3):
        for kind, cuts in streams.advance(4, step)[0].items():
            curriculum.add(kind, cuts, oldest=step - 1)
    ages = {cut.rendered_at for cuts in curriculum.rendered.values() for cut in cuts}
    assert ages == {2}


@pytest.mark.parametrize("changes", (0.0, 0.3, 1.0))
def test_the_chunk_after_a_change_has_its_share_of_the_steps(changes):
    """Forbids a share that is ignored, or taken from one kind alone, or steps of no kind."""
    rng = np.random.default_rng(0)
    curriculum = Curriculum(list(range(22)), _Long().films, rng, rng, changes)
    drawn = [curriculum.draw(0.0)[0] for _ in range(500)]
    assert drawn.count("change") / 500 == pytest.approx(changes, abs=0.06 if 0 < changes < 1 else 0)
    others = {kind.name: (1 - changes) * kind.share for kind in EXCERPT_KINDS if kind.name != "change"}
    assert {name: drawn.count(name) / 500 for name in others} == pytest.approx(others, abs=0.06)


@pytest.mark.parametrize("pattern", STREAM_PATTERNS)
def test_every_change_of_a_stream_can_be_trained(pattern):
    """Forbids changes so near to each other, or to the end, that no window of one prompt holds them."""
    ends = [*pattern, STREAM_CHUNKS]
    assert all(after - before >= 4 for before, after in zip((0, *pattern), ends, strict=True))
    assert not pattern or pattern[0] > LAST_SLOT + 1


def test_films_in_a_row_share_their_changes(monkeypatch):
    """Forbids batches of streams whose prompts change at different chunks."""
    pool = FilmPool(nn.Linear(1, 1), 0, chunks=3, patterns=((1,), (2,)), in_row=2, only_action=1.0)
    latents = torch.zeros(1, 1, 9, 2, 2)
    monkeypatch.setattr("longlive_core.pocket.clip_pool.encode", lambda vae, pixels, group: latents)
    pool.grow(6)
    assert [film.switches for film in pool.films] == [(1,), (1,), (2,), (2,), (1,), (1,)]
    for film in pool.films:
        (_, before), (_, after) = film.script
        assert before.action != after.action and not world.is_held_out(after)
        assert (before.colour, before.shape, before.setting) == (after.colour, after.shape, after.setting)


class _Starts:
    """First chunks of one look."""

    def encode_starts(self, rank, ranks):
        clip = TrainingClip(torch.randn(16, 3, 10, 16).half(), torch.ones(3, 10, 16).half(), LOOKS[0], LOOKS[0])
        self.starts = [clip] * 22


class _Films:
    """Films of random latents, as many as requested."""

    def __init__(self, chunks: int):
        self.chunks, self.films = chunks, []

    def grow(self, size):
        while len(self.films) < size:
            switch = (4, 2, 3, 6, FILM_CHUNKS)[len(self.films) % 5] if self.chunks == FILM_CHUNKS else SWITCHES[0]
            script, frames = [(0, LOOKS[0]), (switch, LOOKS[1])][: 1 + (switch < FILM_CHUNKS)], 3 * self.chunks
            latents, weight = torch.randn(16, frames, 10, 16).half(), torch.ones(frames, 10, 16).half()
            self.films.append(PoolFilm(latents, weight, script))


@pytest.mark.slow
def test_the_stage_trains_the_transformer_on_its_own_films(tmp_path, monkeypatch):
    """Forbids a stage whose films reach no step, and one that moves the text encoder or loses it."""
    torch.manual_seed(0)
    settings = StreamSettings(
        model=ModelConfig(dim=128, ffn_dim=64, num_heads=1, num_layers=4),
        steps=5,
        stream_every=2,
        films=5,
        first_stream_films=2,
        streams=2,
        rendered_clips=2,
        near=float("inf"),
        own_rate=1.0,
        warmup=1,
        changes=0.5,
    )
    model, encoder = WanModel(settings.model), UMT5EncoderModel(encoder_config())
    before = {f"dit.{name}": value for name, value in model.state_dict().items()}
    text = {f"text.{name}": value.bfloat16() for name, value in encoder.state_dict().items()}
    torch.save({"weights": before | text}, tmp_path / "tuned.pt")
    batches, layouts, noisy_batch = [], [], Forcing.noisy_batch

    def recorded(self, clips, layout):
        batches.append(clips)
        layouts.append(layout)
        return noisy_batch(self, clips, layout)

    monkeypatch.setattr(Forcing, "noisy_batch", recorded)
    # No renderings but the streams', so all own chunks are of streams.
    monkeypatch.setattr(Curriculum, "draw_to_render", lambda *_: (EXCERPT_KINDS[0], []))
    monkeypatch.setattr(stage_stream, "render_excerpts", lambda *_: 0.0)
    stage_stream.train(_Starts(), _Films(FILM_CHUNKS), _Films(CHUNKS), tmp_path, 0, settings)
    after = torch.load(tmp_path / "streamed.pt", weights_only=True)["weights"]
    assert any(clip.own is not None for clips in batches for clip in clips)
    assert {layout == CHANGE for layout in layouts} == {True, False}
    assert all(torch.equal(after[name].bfloat16(), value) for name, value in text.items())
    moved = [name for name, value in before.items() if not torch.equal(after[name], value.bfloat16().float())]
    assert len(moved) > len(before) / 2 and all(torch.isfinite(after[name]).all() for name in before)


def test_torchrun_is_for_streams(monkeypatch, capsys, tmp_path):
    """Forbids two processes that write the same files."""
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit):
        train.main(["--out", str(tmp_path)])
    assert "torchrun is for `--stages stream` alone, got vae, dit, tune, stream, export" in capsys.readouterr().err


def test_the_newer_of_two_stages_is_exported(monkeypatch, tmp_path):
    """Forbids an export of an earlier run's streams after a new `tune`, and a bare error if there is none."""
    monkeypatch.setattr(train, "export", lambda vae, dit, text, target, note: dit["mark"])
    with pytest.raises(FileNotFoundError, match="run the stages tune or stream first"):
        train.export_newest(tmp_path, tmp_path, "")
    torch.save({}, tmp_path / "vae.pt")
    for order, name in enumerate(("streamed", "tuned")):
        torch.save({"weights": {"dit.mark": name}}, tmp_path / f"{name}.pt")
        os.utime(tmp_path / f"{name}.pt", (order, order))
    assert train.export_newest(tmp_path, tmp_path, "") == "tuned"
    os.utime(tmp_path / "streamed.pt", (9, 9))
    assert train.export_newest(tmp_path, tmp_path, "") == "streamed"


def test_the_settings_of_a_stream_reach_its_stage(monkeypatch, tmp_path):
    """Forbids options that are read and then ignored."""
    settings = []
    monkeypatch.setattr(stage_stream, "train", lambda *given: settings.append(given[5]))
    monkeypatch.setattr(train, "load_vae", lambda folder: nn.Linear(1, 1))
    monkeypatch.setattr(train, "export_transformer", lambda folder, name: None)
    stream = ["--out", str(tmp_path), "--stages", "stream"]
    train.main(stream)
    train.main([*stream, "--stream-steps", "7", "--stream-near", "1.5", "--stream-changes", "0.3"])
    assert settings == [StreamSettings(), StreamSettings(steps=7, near=1.5, changes=0.3)]


@pytest.mark.parametrize(
    ("option", "value", "words"),
    (
        ("--stream-changes", "1.5", "--stream-changes is a share of the steps, from 0 to 1, got 1.5"),
        ("--stream-changes", "nan", "--stream-changes is a share of the steps, from 0 to 1, got nan"),
        ("--stream-near", "0", "--stream-near is an error above 0, got 0.0"),
    ),
)
def test_invalid_settings_of_a_stream_are_reported_before_the_work(option, value, words, capsys, tmp_path):
    """Forbids hours of training with a share of more than all."""
    with pytest.raises(SystemExit):
        train.main(["--out", str(tmp_path / "none"), "--stages", "stream", option, value])
    assert words in capsys.readouterr().err and not (tmp_path / "none").exists()
