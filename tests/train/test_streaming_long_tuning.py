"""Films that are extended clip by clip while the student learns."""

import gc

import pytest
import torch

from longlive_core.config import StreamConfig
from longlive_core.engine.noise import AddressedNoise
from longlive_core.engine.rollout import rollout
from longlive_core.engine.shot import PromptSpan
from longlive_core.train.distillation.first_latent import HISTORY
from longlive_core.train.distillation.streaming_long_tuning import Lengths, LongFilm

from .conftest import SIZE, student_shot, texts, tiny

SHORT = Lengths(clip=12, new=9, longest=12 + 9 * 4)


def test_lengths_of_the_paper():
    """Forbids clips that overlap by another number of frames than the paper's."""
    assert (Lengths().clips, Lengths().frames) == (13, 237)
    assert Lengths(longest=21).clips == 1


@pytest.mark.parametrize("clip, new, longest", [(21, 0, 240), (21, 24, 240), (21, 18, 20)])
def test_lengths_that_contradict_each_other(clip, new, longest):
    """Forbids a film of no clips."""
    with pytest.raises(ValueError, match=f"{clip} latent frames with {new} new"):
        Lengths(clip, new, longest)


def test_clips_must_be_whole_chunks():
    """Forbids a clip that ends inside a chunk."""
    with pytest.raises(ValueError, match="multiples of the chunk, 3"):
        LongFilm(student_shot(tiny(1)), texts(2), None, None, [3], Lengths(20, 18, 200))


def test_scores_see_a_picture_first_and_the_film_continues_as_it_was():
    """Forbids a changed first frame in a film's first clip, in what is rendered, or in the next clip's context; and a
    picture of other frames than the clip's first and those before it."""
    given = []

    def as_image(latents):
        given.append(latents)
        return latents[:, :, -1:] + 100

    plain = LongFilm(student_shot(tiny(1)), texts(2), None, None, [7], SHORT)
    begun = LongFilm(student_shot(tiny(1)), texts(2), None, None, [7], SHORT, as_image)
    film = torch.empty(1, 16, 0, *SIZE)
    for number in range(3):
        one, other = plain.next_clip(2), begun.next_clip(2)
        film = torch.cat([film, one.rolled.latents], dim=2)
        assert torch.equal(one.rolled.latents, other.rolled.latents)
        assert torch.equal(one.latents[:, :, 1:], other.latents[:, :, 1:])
        assert torch.equal(one.latents[:, :, :1] + (100 if number else 0), other.latents[:, :, :1])
        if number:
            first = film.shape[2] - SHORT.clip
            assert torch.equal(given[-1], film[:, :, first - HISTORY : first + 1])
    alone = LongFilm(student_shot(tiny(1)), texts(2), None, None, [7], Lengths(12, 12, 24), as_image)
    assert all(torch.equal(clip.latents, clip.rolled.latents) for clip in (alone.next_clip(2), alone.next_clip(2)))
    again = LongFilm.from_state_dict(student_shot(tiny(1)), begun.state_dict(), SHORT, begun.as_image)
    assert torch.equal(again.next_clip(2).latents, begun.next_clip(2).latents)


@pytest.mark.parametrize("policy", ["held", "refreshed"])
@pytest.mark.parametrize("switch", [1, 3])
def test_recache_in_the_loop_is_recache_in_inference(policy, switch):
    """Forbids a training whose change of prompt is not the sampler's, bit for bit, in early and late clips."""
    model = tiny(1)
    stream = StreamConfig(window=9, sink=3, positions="relative", sink_policy=policy)
    film = LongFilm(student_shot(model, sink_policy=policy), texts(2), texts(3), switch, [7], SHORT)
    made = torch.cat([film.next_clip(3).rolled.latents for _ in range(SHORT.clips)], dim=2)
    at = (SHORT.clip + (switch - 1) * SHORT.new) // 3
    spans = [PromptSpan(0, texts(2)), PromptSpan(at, texts(3), "recache")]
    with torch.no_grad():
        parts = rollout(model, spans, SHORT.frames // 3, SIZE, stream, AddressedNoise(7))
        expected = torch.cat([part.latents for part in parts], dim=2)
    assert torch.equal(made, expected)


def test_windows_overlap_by_the_frames_before():
    """Forbids scores that see a clip without, or with other, frames before it."""
    film = LongFilm(student_shot(tiny(1)), texts(2), None, None, [7], SHORT)
    first, second = film.next_clip(2), film.next_clip(2)
    assert (first.new_frames, second.new_frames) == (12, 9)
    assert second.latents.shape[2] == 12
    assert torch.equal(second.latents[:, :, :3], first.latents[:, :, -3:])


def test_prompt_of_a_clip_is_the_one_it_is_judged_under():
    """Forbids a teacher that is conditioned on the old prompt after the switch."""
    film = LongFilm(student_shot(tiny(1)), texts(2), texts(3), 2, [7], SHORT)
    contexts = [film.next_clip(0).context for _ in range(4)]
    expected = (texts(2), texts(2), texts(3), texts(3))
    assert all(torch.equal(a, b) for a, b in zip(contexts, expected, strict=True))


def test_a_film_that_is_done_says_so():
    """Forbids films longer than configured."""
    film = LongFilm(student_shot(tiny(1)), texts(2), None, None, [7], Lengths(12, 9, 12))
    film.next_clip(0)
    with pytest.raises(RuntimeError, match="all its 1 clips"):
        film.next_clip(0)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_film():
    """Forbids a state, or a graph, that keeps anything of earlier clips."""
    film = LongFilm(student_shot(tiny(1)), texts(2), None, None, [7], Lengths(12, 9, 12 + 9 * 20))

    def held() -> int:
        gc.collect()
        storages = {
            t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
            for t in gc.get_objects()
            if type(t) in (torch.Tensor, torch.nn.Parameter)
        }
        return sum(storages.values())

    sizes = []
    for _ in range(20):
        window = film.next_clip(1)
        film.shot.backward(window.rolled, torch.ones_like(window.rolled.latents))
        sizes.append(held())
    assert max(sizes[3:]) <= sizes[3] + 1024


def test_state_of_a_film_is_all_that_it_depends_on():
    """Forbids a film that continues differently after a checkpoint in its middle."""
    one = LongFilm(student_shot(tiny(1)), texts(2), texts(3), 3, [7], SHORT)
    for _ in range(2):
        one.next_clip(2)
    two = LongFilm.from_state_dict(student_shot(tiny(1)), one.state_dict(), SHORT)
    for _ in range(3):
        assert torch.equal(one.next_clip(2).latents, two.next_clip(2).latents)
    assert one.finished and two.finished
