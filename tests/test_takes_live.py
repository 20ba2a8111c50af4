"""Prompts and ends that come while a film is rendered: the film is the one that the timeline so written gives."""

import pytest

from longlive_core.takes import Live, TooLate
from longlive_core.timeline import TimelineError, parse

from .studio import CHUNKS, STORY, Studio, complete, frames_of, same

pytestmark = pytest.mark.slow

STEPS = 4


class Director:
    """A `Live` that calls `act(live)` just before it is requested chunk `at`, as another thread might."""

    def __init__(self, live, acts):
        self.live, self.acts = live, acts

    def __getattr__(self, name):
        return getattr(self.live, name)

    def plan_for(self, chunk):
        self.acts.pop(chunk, lambda live: None)(self.live)
        return self.live.plan_for(chunk)


def _alone(studio, take):
    """The film of a take's own timeline, rendered from nothing in another store: latents and frames."""
    other = Studio(studio.model, studio.contexts, studio.decoder, type(studio.store)(studio.store.folder / "other"))
    whole = other.open(take.manifest.timeline, len(take.manifest.keys))
    other.render(whole)
    assert whole.id == take.id
    return other.latents(whole), frames_of(whole.film_path)


@pytest.mark.parametrize(
    ("at", "text", "transition"),
    [
        ("now", "c", "recache"),
        ("now", "a", "keep"),
        ("now", "c", "cut"),
        ("6c", "a", "recache"),
        ("6.4s", "a {keep}", "recache"),
        (6.0, "a", "recache"),
        ("9c", "a", "recache"),
    ],
)
def test_a_prompt_typed_while_it_renders_is_in_the_timeline(studio, at, text, transition):
    """Forbids a film that cannot be rendered again: it equals the one of the timeline that the take has then."""
    take = studio.open()
    live = Live(take.plan)
    studio.render(take, live=Director(live, {4: lambda live: live.prompt(text, at, transition)}))
    changed = studio.take
    chunk = 4 if at == "now" else {"6.4s": 9, 6.0: 8}.get(at) or int(at[:-1])
    assert f"\n{chunk}c {text.split(' ')[0]}" in changed.manifest.timeline
    assert changed.id != take.id and live.status()["take"] == changed.id
    latents, frames = _alone(studio, changed)
    assert same(studio.latents(changed), latents)
    assert all((a == b).all() for a, b in zip(frames_of(changed.film_path), frames, strict=True))
    assert [manifest.id for manifest in studio.store.takes()] == [changed.id]
    assert studio.open().reused == chunk


def test_several_prompts_and_an_end(studio):
    """Forbids a second prompt that undoes the first, and takes left behind by each."""
    take = studio.open()
    acts = {2: lambda live: live.prompt("c"), 3: lambda live: live.prompt("a", "5c"), 7: lambda live: live.finish()}
    studio.render(take, live=Director(Live(take.plan), acts))
    assert studio.take.manifest.timeline.splitlines()[:5] == ["0c a", "2c c", "5c a", "6c c {keep}", "8c b"]
    assert len(studio.latents(studio.take)) == 7
    assert [manifest.id for manifest in studio.store.takes()] == [studio.take.id]
    steps, _ = studio.render(studio.take)
    assert {chunk for chunk, _ in steps} == {7, 8, 9}


def test_what_was_there_before_stays(studio):
    """Forbids a live change that eats the take it began from."""
    whole = studio.open()
    studio.render(whole)
    studio.render(studio.open(), live=Director(Live(whole.plan), {4: lambda live: live.prompt("c")}))
    assert {manifest.id for manifest in studio.store.takes()} == {whole.id, studio.take.id}
    assert studio.open().reused == CHUNKS


def test_an_endless_film_ends_when_it_is_finished(studio):
    """Forbids an end at the timeline's own length, and a take that calls itself longer than its film."""
    take = studio.open("0c a\n2c b", 4)
    acts = {30: lambda live: live.prompt("c", "40c"), 41: lambda live: live.finish()}
    studio.render(take, live=Director(Live(take.plan, endless=True), acts))
    assert len(studio.take.manifest.keys) == 41 == len(studio.latents(studio.take))
    assert len(frames_of(studio.take.film_path)) == 12 * 41 - 3
    assert same(studio.latents(studio.take), _alone(studio, studio.take)[0])
    assert [manifest.id for manifest in studio.store.takes()] == [studio.take.id]


def test_an_end_that_comes_before_the_first_chunk_waits_for_it(studio):
    """Forbids a film without frames."""
    take = studio.open()
    studio.render(take, live=Director(Live(take.plan), {0: lambda live: live.finish()}))
    assert len(studio.latents(take)) == 1 and len(frames_of(take.film_path)) == 9
    assert not complete(take)


def test_absolute_positions_end_a_film_without_end():
    """Forbids running past the last position there is."""
    live = Live(parse("0c a").plan(1.0), endless=True, longest_shot=5)
    live.plan_for(0)
    live.prompt("b", "3c", "cut")
    assert [live.plan_for(chunk) is None for chunk in range(1, 9)] == [False] * 7 + [True]


REFUSED = {
    "past": (("b", "1c", "keep"), TooLate, "chunk 1 is made already; the next is 3"),
    "past in seconds": (("b", 0.4, "keep"), TooLate, "made already"),
    "after the end": (("b", "10c", "keep"), TooLate, "past the end of the film, whose last is 9"),
    "no time": (("b", "soon", "keep"), TimelineError, "is not a time"),
    "empty time": (("b", "", "keep"), TimelineError, "'' is not a time"),
    "two lines": (("b\n5c c", "now", "keep"), TimelineError, "line"),
    "no text": ((" ", "now", "keep"), TimelineError, "no text"),
    "another option": (("b {loop}", "now", "recache"), TimelineError, "unknown option"),
    "no transition": (("b", "now", "fade"), ValueError, "fade"),
}


@pytest.mark.parametrize(("asked", "kind", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_changed_is_refused(asked, kind, words):
    """Forbids a prompt that is taken and never shown, or one that breaks the timeline."""
    live = Live(parse(STORY).plan((12 * CHUNKS - 3) / 16))
    for chunk in range(3):
        before = live.plan_for(chunk)
    with pytest.raises(kind, match=words):
        live.prompt(*asked)
    assert live.plan_for(3) == before


def test_a_finished_film_cannot_be_changed():
    """Forbids an answer that promises what will not happen."""
    live = Live(parse("0c a").plan(2.0))
    assert live.plan_for(0) is not None
    live.finish()
    with pytest.raises(TooLate, match="ends after this chunk"):
        live.prompt("b")
    assert live.plan_for(1) is None
    for change in (live.finish, lambda: live.prompt("b")):
        with pytest.raises(TooLate, match="is finished"):
            change()
    assert live.status()["state"] == "finished"
