"""Bounds on what may be changed while a film is rendered, and films as long as a film may be; nothing is rendered."""

import math
import re

import pytest

from longlive_core.film.video import Encoding
from longlive_core.takes import Live, TooFast, TooLate
from longlive_core.takes import live as live_module
from longlive_core.takes.keys import shots_of
from longlive_core.takes.live import AHEAD, PROMPTS, WITHIN
from longlive_core.takes.take import changed_take, plan_take
from longlive_core.takes.versions import SHARE, TakeVersions, Throttle
from longlive_core.timeline import MAX_CHUNKS, MAX_SEGMENTS, NewSegment, TimelineError, parse, with_segments
from longlive_core.timeline.limits import MAX_PROMPT, MAX_SECONDS

from .key_plans import ORIGIN, STORY
from .studio import VAE


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def at_chunk(live: Live, chunk: int) -> Live:
    """A film of which that chunk is the next."""
    live._next = chunk
    return live


# --- what a prompt may be

ENDLESS = {
    "far chunk": ("100000c", ValueError, r"100000 is too far ahead: the next is 2, .* up to 4800 chunks \(1 hour\)"),
    "just too far": ("4803c", ValueError, "too far ahead"),
    "next day": ("200000c", TooLate, "past the end of the film: films of this rate have at most 1152"),
    "25 hours": ("25h", TooLate, "past the end of the film"),
    "many digits": ("9" * 31 + "c", TooLate, "past the end of the film"),
    "many frames": ("9" * 31 + "f", TooLate, "past the end of the film"),
    "too many digits": ("9" * 33 + "s", TimelineError, "too many digits"),
    "a page": ("9" * 60_000, TimelineError, "too many digits"),
    "huge number": (1e308, TimelineError, r"the time 1e\+308 is not in the film: give seconds from 0 to 86400"),
    "huge whole number": (10**5000, TimelineError, r"the time about 10\^\d+ is not in the film"),
    "below": (-1, TimelineError, "the time -1 is not in the film"),
    "far below": (-(10**5000), TimelineError, r"the time about -10\^\d+"),
    "below in text": ("-3s", TimelineError, "negative"),
    "NaN": (math.nan, TimelineError, "the time nan is not in the film"),
    "infinity": (math.inf, TimelineError, "the time inf is not in the film"),
    "minus infinity": (-math.inf, TimelineError, "the time -inf is not in the film"),
    "NaN in text": ("nan", TimelineError, "is not a time"),
    "true": (True, ValueError, "the time True is none"),
    "none": (None, ValueError, "the time None is none"),
    "list": (["12s"] * 1000, ValueError, "is none: give 'now', seconds, or a text such as '12s'"),
}


@pytest.mark.parametrize("endless", [True, False])
@pytest.mark.parametrize(("at", "kind", "words"), ENDLESS.values(), ids=ENDLESS)
def test_a_prompt_lies_in_the_film_and_not_far_ahead(at, kind, words, endless):
    """Forbids a plan of a hundred thousand chunks for one request, and an error that does not say the bound."""
    live = at_chunk(Live(parse("0c a").plan(6.0), endless), 1)
    if not endless and kind is not TimelineError and not isinstance(at, (bool, list, type(None))):
        kind, words = TooLate, "past the end of the film, whose last is 8"
    before = live.plan_for(1)
    with pytest.raises(kind, match=words):
        live.prompt("b", at)
    assert live.plan_for(1) is before


def test_the_furthest_prompt_is_taken():
    """Forbids a bound that is one off."""
    live = at_chunk(Live(parse("0c a").plan(6.0), endless=True), 1)
    assert live.prompt("b", f"{1 + int(AHEAD * 16 / 12)}c") == 4801


def test_a_prompt_has_a_most():
    """Forbids a text of any length, which every chunk's key and the film's tags would hold."""
    live = Live(parse("0c a").plan(6.0), endless=True)
    assert live.prompt("x" * MAX_PROMPT) == 0
    with pytest.raises(TimelineError, match=f"the prompt has {MAX_PROMPT + 1} characters; the most is {MAX_PROMPT}"):
        live.prompt("x" * (MAX_PROMPT + 1))


def test_prompts_have_a_rate_that_nobody_reaches():
    """Forbids a program whose requests keep the server and the film busy; and a refusal that lasts."""
    clock = Clock()
    live = Live(parse("0c a").plan(6.0), endless=True, clock=clock)
    for number in range(PROMPTS):
        live.prompt(f"prompt {number}")
        clock.now += 0.125
    with pytest.raises(TooFast, match=f"{PROMPTS} prompts came within 10 s, which is the most: .* in 7 s") as refused:
        live.prompt("one more")
    assert refused.value.retry_after == pytest.approx(WITHIN - 3.75)
    clock.now += refused.value.retry_after + 0.01
    live.prompt("one more")
    with pytest.raises(TooFast):
        [live.prompt("and more") for _ in range(2)]


def test_mistakes_count_as_prompts():
    """Forbids reading any number of wrong texts."""
    live = Live(parse("0c a").plan(6.0), endless=True, clock=Clock())
    for _ in range(PROMPTS):
        with pytest.raises(TimelineError):
            live.prompt("b {loop}")
    with pytest.raises(TooFast):
        live.prompt("b")


def test_prompts_have_a_number():
    """Forbids a film whose plan grows without end. A prompt that replaces another does not count."""
    plan = parse("0c a").plan(None, chunks=MAX_SEGMENTS + 9)
    plan = with_segments(plan, [NewSegment(chunk, "b") for chunk in range(1, MAX_SEGMENTS)])
    live = at_chunk(Live(plan, endless=True), MAX_SEGMENTS - 1)
    with pytest.raises(TimelineError, match=f"has {MAX_SEGMENTS + 1} prompts or more; the most is {MAX_SEGMENTS}"):
        live.prompt("one more", f"{MAX_SEGMENTS}c")
    assert live.prompt("another", f"{MAX_SEGMENTS - 1}c") == MAX_SEGMENTS - 1


def test_status_does_not_write_the_timeline_for_who_does_not_want_it(monkeypatch):
    """Forbids an event a chunk that costs as much as the film is long; and writing it while rendering waits."""
    live = Live(parse(STORY).plan(None), endless=True)
    whole = live.status()
    assert whole["timeline"].startswith("0c A red ball.")
    held = []
    monkeypatch.setattr(live_module, "plan_text", lambda plan: held.append(live._lock.locked()) or "text")
    assert live.status(timeline=False) == {name: value for name, value in whole.items() if name != "timeline"}
    assert held == []
    assert live.status()["timeline"] == "text" and held == [False]


# --- a day

RATES = [(16, 3), (16, 1), (24, 3), (60, 3), (120, 1), (1000, 1)]


@pytest.mark.parametrize(("fps", "chunk"), RATES)
def test_an_endless_film_ends_after_a_day(fps, chunk):
    """Forbids an error in the middle of a chunk, and a film longer than its plan may be."""
    live = Live(parse("0c a").plan(6.0, fps, chunk), endless=True)
    most = live._plan.most_chunks
    assert live._plan.resized(most).chunks == most
    with pytest.raises(TimelineError):
        live._plan.resized(most + 1)
    assert most == MAX_CHUNKS or MAX_SECONDS <= live._plan.resized(most).seconds < MAX_SECONDS + 8 * chunk / fps + 1
    at_chunk(live, most - 2)
    plans = [live.plan_for(number) for number in (most - 2, most - 1)]
    assert plans[-1].chunks == most and not live.full or live.full
    assert live.plan_for(most) is None
    assert live.full and live.status()["state"] == "finished"


def test_a_prompt_in_the_last_chunk_of_the_day():
    """Forbids a plan that is refused since it would be longer than its own chunks."""
    live = Live(parse("0c a").plan(6.0), endless=True)
    most = live._plan.most_chunks
    live.plan_for(most - 2)
    assert live.prompt("b", transition="cut") == most - 1
    assert live.plan_for(most - 1).segments[-1].start_chunk == most - 1
    live.plan_for(most)
    with pytest.raises(TooLate):
        live.prompt("c")


def test_a_film_that_ended_otherwise_is_not_full():
    """Forbids the wrong reason under a film that was finished by hand, or whose shot is as long as it may be."""
    live = Live(parse("0c a").plan(6.0), endless=True, longest_shot=3)
    assert [live.plan_for(number) is None for number in range(4)] == [False, False, False, True]
    assert not live.full


# --- what a change costs


@pytest.fixture
def take(tmp_path):
    from longlive_core.takes import TakeStore

    plan = parse(STORY).plan(12.0)
    return plan_take(TakeStore(tmp_path), STORY, plan, ORIGIN, Encoding(832, 480), VAE)


def test_only_what_changed_is_named_anew(take, monkeypatch):
    """Forbids hashing a whole film for each prompt, and keys that are not those of the film's timeline."""
    from longlive_core.takes import keys

    plan = take.plan.resized(4000)
    take = changed_take(take, plan)
    hashed = []
    real = keys.hashed
    monkeypatch.setattr(keys, "hashed", lambda text: hashed.append(text) or real(text))
    changed = changed_take(take, with_segments(plan, [NewSegment(3990, "A green box.")]))
    assert len(hashed) < 20
    longer = changed_take(changed, changed.plan.resized(4016))
    assert len(hashed) < 40
    cut = changed_take(longer, with_segments(longer.plan, [NewSegment(4010, "A new shot.", "cut")]))
    for each in (changed, longer, cut):
        assert each.shots == shots_of(each.plan, ORIGIN)


def test_the_store_learns_of_changes_seldom_enough(take):
    """Forbids typing that slows the film: writing has its share of the time, and the last change is not lost."""
    clock, seen = Clock(), []
    store, write = take.store, take.store.write_manifest

    def slow(manifest):
        clock.now += 1.0
        write(manifest)

    store.write_manifest = slow
    live = Live(take.plan)
    changes = TakeVersions(take, live, lambda take: seen.append(take.id), Throttle(clock))
    for number in range(5, 14):
        changes.follow(with_segments(changes.take.plan, [NewSegment(number, f"prompt {number}")]))
        assert changes.take.keys == [key for shot in shots_of(changes.take.plan, ORIGIN) for key in shot.keys]
        clock.now += 0.5
    assert len(seen) == 1
    clock.now += 1.0 / SHARE
    changes.follow()
    assert len(seen) == 2
    changes.follow(with_segments(changes.take.plan, [NewSegment(15, "the last")]))
    assert len(seen) == 2
    changes.write()
    assert len(seen) == 3 and live.status()["take"] == seen[-1] == changes.take.id
    (stored,) = store.takes()
    assert stored.id == changes.take.id and re.search("15c the last$", stored.timeline)
    assert stored.keys == changes.take.keys
    changes.write()
    changes.close()
    assert len(seen) == 3


def test_the_first_change_is_written_at_once(take):
    """Forbids that a prompt typed now and then is lost in a crash."""
    seen = []
    changes = TakeVersions(take, Live(take.plan), lambda take: seen.append(take.id), Throttle(Clock()))
    changes.follow(with_segments(take.plan, [NewSegment(5, "b")]))
    assert len(seen) == 1 and take.store.read_manifest(seen[0]).segments[-1]
    changes.close()
