"""Films and timelines that are too long are refused before anything of that size is built; the longest ones cost
little, and the user who waits for them may cancel."""

import json
import random
import re
import sys
from collections import Counter

import pytest
import torch

from longlive_core.cancelling import cancellable, cancelled_by, check_cancelled
from longlive_core.film.video import Encoding
from longlive_core.takes import TakeStore, VaeIdentity, plan_take, store_start_latents
from longlive_core.takes import keys as keys_module
from longlive_core.takes.frame_ranges import latents_of
from longlive_core.takes.keys import Origin
from longlive_core.takes.take import join
from longlive_core.timeline import MAX_CHUNKS, MAX_SEGMENTS, TimelineError, parse, plan, plan_text, snap
from longlive_core.timeline.folding import fold, one_line
from longlive_core.timeline.limits import MAX_FPS, MAX_PROMPT, MAX_SECONDS, MAX_TEXT
from longlive_core.timeline.notations import brackets

from . import made_takes
from .key_plans import ORIGIN, STREAM

# --- chunks

TOO_MANY = {
    "a rate": (lambda: parse("0s a").plan(86400, 1000.0), "would have 7200001 chunks at 1000 frames per second;"),
    "single frames": (lambda: parse("0s a").plan(86400, 24, 1), "would have 518401 chunks at 24 frames per second"),
    "exact chunks": (lambda: parse("0s a").plan(None, chunks=MAX_CHUNKS + 1), f"would have {MAX_CHUNKS + 1} chunks"),
    "more digits than Python writes": (lambda: parse("0s a").plan(None, chunks=10**5000), r"about 10\^5000 chunks"),
    "a range's end": (lambda: parse("[0c-9000000c: a]").plan(None), "would have 9000000 chunks"),
    "resized": (lambda: parse("0s a").plan(6.0).resized(10**9), "would have 1000000000 chunks"),
    "a schedule": (lambda: parse('{"0": "a", "99999999": "b"}').plan(None), "would last 6.25e+06 s; the most is 86400"),
    "an object": (lambda: parse('[{"time": 0, "prompt": "a"}, {"time": 1e8, "prompt": "b"}]').plan(None), "last 1e+08"),
    "lengths": (lambda: parse('{"shots": [{"duration": 1e9, "prompt": "a"}]}').plan(None), "would last 1e+09 s"),
    "a day in long chunks": (lambda: parse("0s a").plan(None, chunks=200_000), "more than 86400 s"),
}


@pytest.mark.parametrize(("make", "words"), TOO_MANY.values(), ids=TOO_MANY)
def test_too_many_chunks_are_refused_before_they_are_built(monkeypatch, make, words):
    """Forbids 166 million chunks for a rate of 1e9, by any way to give a film's length."""

    def built(*arguments, **more):
        raise AssertionError("a plan was built")

    monkeypatch.setattr(snap, "Plan", built)
    if make is not TOO_MANY["resized"][0]:
        with pytest.raises(TimelineError, match=re.escape(words) if "\\" not in words else words):
            make()
    monkeypatch.undo()
    with pytest.raises(TimelineError, match=re.escape(words) if "\\" not in words else words):
        make()


RATES = [1e9, 1e308, MAX_FPS * 1.01, 0, -16, float("nan"), float("inf"), True, "16", None, 10**400]


@pytest.mark.parametrize("fps", RATES, ids=range(len(RATES)))
def test_rates_have_a_most(fps):
    """Forbids a rate at which a second has more chunks than a film may."""
    with pytest.raises(ValueError, match="it must be a number above 0, 1000 at most"):
        parse("0s a").plan(1.0, fps)


def test_a_day_is_planned_at_the_usual_rates():
    """Forbids a bound that people reach."""
    for fps, chunk in ((16, 3), (24, 3), (30, 3), (48, 3), (16, 1)):
        assert parse("0s a").plan(MAX_SECONDS, fps, chunk).seconds >= MAX_SECONDS


# --- texts


def lines(number: int) -> str:
    return "\n".join(f"{index}c prompt {index}" for index in range(number))


LONG_TEXTS = {
    "lines": lines(MAX_SEGMENTS + 1),
    "bars": " | ".join(["a"] * (MAX_SEGMENTS + 1)),
    "plain": "a\n" * (MAX_SEGMENTS + 1),
    "ranges": " ".join(f"[{index}c-{index + 1}c: a]" for index in range(MAX_SEGMENTS + 1)),
    "list": json.dumps(["a"] * (MAX_SEGMENTS + 1)),
    "objects": json.dumps([{"time": index, "prompt": "a"} for index in range(MAX_SEGMENTS + 1)]),
    "schedule": json.dumps({str(12 * index): "a" for index in range(MAX_SEGMENTS + 1)}),
}


@pytest.mark.parametrize("text", LONG_TEXTS.values(), ids=LONG_TEXTS)
def test_a_timeline_has_a_number_of_prompts(text):
    """Forbids timelines of an unlimited number of prompts, in any form."""
    with pytest.raises(TimelineError, match=f"prompts or more; the most is {MAX_SEGMENTS}: make films of its parts"):
        parse(text)


@pytest.mark.parametrize("text", ["0s " + "a" * MAX_TEXT, "[" * MAX_TEXT + "aaa", " " * MAX_TEXT + "a"], ids=range(3))
def test_a_text_has_a_length(monkeypatch, text):
    """Forbids reading what is longer than any timeline."""
    monkeypatch.setattr(sys.modules["longlive_core.timeline.parse"], "strip_document", None)
    with pytest.raises(TimelineError, match=f"characters; the most is {MAX_TEXT}"):
        parse(text)


FORMS = ["0s {}", "0s a\n2s {}", "[0s-5s: {}]", "a | {}", "* {}\n0s a", '["{}"]', '{{"0": "{}"}}']


@pytest.mark.parametrize("text", FORMS)
def test_a_prompt_has_a_length(text):
    """Forbids a prompt that is hashed into every chunk's key, however long it is."""
    parse(text.format("a" * MAX_PROMPT))
    with pytest.raises(TimelineError, match=f"the prompt has {MAX_PROMPT + 1} characters; the most is {MAX_PROMPT}"):
        parse(text.format("a" * (MAX_PROMPT + 1)))


def test_line_breaks_in_a_prompt_become_spaces():
    """Forbids another result of the way that takes no longer than the text is long."""
    rng = random.Random(5)
    for _ in range(3000):
        text = "".join(rng.choice(" \t\n\r\x0b\u2003ab") for _ in range(rng.randint(0, 9)))
        assert one_line(text) == re.sub(r"\s*[\r\n]+\s*", " ", text)


def test_many_ranges_on_a_line_are_not_copied_for_each(monkeypatch):
    """Forbids work that grows with the square of a line."""
    seen, real = [], brackets.find_head
    monkeypatch.setattr(brackets, "find_head", lambda line, number: seen.append(len(line)) or real(line, number))
    text = " ".join(f"[{index}c-{index + 1}c: a red ball bounces]" for index in range(2000))
    script = parse(text)
    assert len(script.segments) == 2000 and max(seen) <= 1000
    column = text.index("[1999c") + 1
    assert script.segments[-1].column == column
    with pytest.raises(TimelineError, match=f"line 1, column {column}: "):
        parse(text.replace("[1999c-2000c:", "[1999x-2000c:"))


def test_long_texts_are_not_kept():
    """Forbids a memory of timelines that grows with every one that is queued."""
    before = fold("a" * 5000)
    assert fold("a" * 5000) is not before and fold("a b") is fold("a b")


# --- keys


def test_a_film_is_named_once_for_each_name_of_its_model(monkeypatch, tmp_path):
    """Forbids naming all chunks of a film again for every way that its video may be called."""
    old = Origin("old", "text", "bfloat16", STREAM, (832, 480), 7)
    origin = Origin("model", "text", "bfloat16", STREAM, (832, 480), 7, (old,))
    vae = VaeIdentity(
        "vae", "float32", 4, aliases=(VaeIdentity("older", "float32", 4), VaeIdentity("oldest", "float32", 4))
    )
    assert len(vae.units({"fps": 16})) > 3
    hashed, real = Counter(), keys_module.hashed
    monkeypatch.setattr(keys_module, "hashed", lambda text: hashed.update([text]) or real(text))
    film = parse("0s a\n9s b").plan(75.0)
    plan_take(TakeStore(tmp_path), "x", film, origin, Encoding(832, 480), vae)
    assert sum(text.startswith('["') for text in hashed) < 2 * film.chunks + 20


def test_shots_are_not_searched_for_each_other(monkeypatch):
    """Forbids a film of many shots that takes as long as their number squared."""
    made, real = [], plan.PlannedPrompt
    monkeypatch.setattr(plan, "PlannedPrompt", lambda *values: made.append(1) or real(*values))
    film = parse("\n".join(f"{2 * index}c shot {index}{' {cut}' * (index > 0)}" for index in range(300))).plan(None)
    assert len(keys_module.shots_of(film, ORIGIN)) == 300
    assert len(made) == 300


# --- cancelling


class Cancelled(Exception):
    pass


def after(number: int):
    """Raises at the call of that number."""
    calls = []

    def ask():
        calls.append(1)
        if len(calls) == number:
            raise Cancelled

    return ask


def test_nothing_is_checked_without_a_host():
    """Forbids a host that is called after its run."""
    with pytest.raises(Cancelled), cancelled_by(after(1)):
        check_cancelled()
    check_cancelled()
    with cancelled_by(after(2)):
        with pytest.raises(Cancelled), cancelled_by(after(1)):
            check_cancelled()
        check_cancelled()
    assert list(cancellable(range(3))) == [0, 1, 2]


@pytest.fixture
def store(tmp_path):
    store = TakeStore(tmp_path / "store")
    for number in range(1, 4):
        made_takes.place(store, made_takes.manifest(number, "0s a", 6))
    return store


def one_of(store):
    return next(iter(store.takes()))


BUSY = {
    "reading a timeline": lambda store: parse(lines(2000).replace("prompt", "a prompt")),
    "writing it": lambda store: plan_text(parse(lines(3000).replace("prompt", "one")).plan(None)),
    "planning": lambda store: plan_take(
        store,
        "x",
        parse("0s a").plan(6.0),
        Origin("m", "t", "float32", STREAM, (832, 480), 0, (ORIGIN,)),
        Encoding(832, 480),
        VaeIdentity("v", "float32", 4),
    ),
    "listing": lambda store: list(store.takes()),
    "latents": lambda store: latents_of(store, one_of(store), 3, 0, 20),
    "beginning with latents": lambda store: store_start_latents(store, torch.rand(1, 16, 9, 60, 104), ORIGIN, 9),
    "joining": lambda store: join(store, one_of(store), store.folder / "film.mp4"),
}


@pytest.mark.parametrize("work", BUSY.values(), ids=BUSY)
def test_what_may_take_long_can_be_cancelled(store, work):
    """Forbids a queue that is blocked by a film that was cancelled."""
    with pytest.raises(Cancelled), cancelled_by(after(1)):
        work(store)
