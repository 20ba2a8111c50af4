"""Many random timelines, good and bad: what holds for any script and any plan."""

import json
import random
import re
import string
from dataclasses import replace
from itertools import pairwise

import pytest

from longlive_core.timeline import (
    NewSegment,
    TimelineError,
    parse,
    plan_text,
    script_text,
    shot_boundary,
    with_segment,
    with_segments,
)
from longlive_core.timeline.notations.lines import read_timed
from longlive_core.timeline.script import check_order
from longlive_core.timeline.snap import check_blend
from longlive_core.timeline.syntax_hints import text_hints
from longlive_core.timeline.write import exact_script
from tests.test_timeline import entry, scope

PIECES = [
    "panda",
    "3",
    "x{y",
    "}",
    "{red}",
    "[",
    "]",
    "a|b",
    "0:12",
    "\u96ea",
    "keep",
    "*",
    '"',
    "\\",
    "{keep}z",
    ".",
    "| 5s",
]

FORMS = {"lines", "ranges", "untimed", "json", "scope"}
OPTIONS = [" {keep}", "{cut}", " {recache}", "{seed=7, keep}", " {seed=0}{cut}", "{blend=2c}", " {blend=.9s, seed=3}"]


def random_timeline(rng):
    """Text that is often, but not always, a timeline."""
    words = lambda: " ".join(rng.choice(PIECES) for _ in range(rng.randint(1, 4)))  # noqa: E731
    option = lambda: rng.choice(["", ""] + OPTIONS)  # noqa: E731
    count = rng.randint(1, 6)
    starts = [0.0]
    for _ in range(count):
        starts.append(round(starts[-1] + rng.uniform(1, 9), rng.randint(0, 3)))
    form = rng.choice(["lines", "chunks", "ranges", "plain", "pipes", "json", "scope"])
    prompts = [words() + (option() if index else "") for index in range(count)]
    if form == "lines":
        text = "\n".join(f"{start}s {prompt}" for start, prompt in zip(starts, prompts, strict=False))
    elif form == "chunks":
        text = "\n".join(f"{int(start)}c {prompt}" for start, prompt in zip(starts, prompts, strict=False))
    elif form == "ranges":
        text = rng.choice(["\n", " "]).join(
            f"[{a}s-{b}s: {p}]" for a, b, p in zip(starts, starts[1:], prompts, strict=False)
        )
    elif form in ("plain", "pipes"):
        text = ("\n" if form == "plain" else " | ").join(prompts)
    elif form == "json":
        text = json.dumps({"prompts": prompts}, indent=rng.choice([None, 1]))
    else:
        text = scope(*(entry(a, b, (p, 100)) for a, b, p in zip(starts, starts[1:], prompts, strict=False)))
    return text if rng.random() < 0.7 else f"* {words()}\n{text}"


def meaning(script):
    return (
        script.anchor,
        script.notation,
        [(s.text, s.time, s.end, s.transition, s.seed, s.blend) for s in script.segments],
    )


def random_plans(rng, number):
    """Plans of random timelines, each with its script's form."""
    for _ in range(number):
        clock = rng.choice([16, 24, 29.97]), rng.choice([1, 3, 4])
        try:
            script = parse(random_timeline(rng))
            yield script.notation, script.plan(rng.choice([None, rng.uniform(1, 60)]), *clock)
        except TimelineError:
            continue


def content(plan):
    """A plan without what only tells how it was written."""
    segments = tuple(replace(segment, requested_seconds=0.0, line=0) for segment in plan.segments)
    return replace(plan, segments=segments, hints=())


def again(plan):
    """The plan, written and read."""
    return parse(plan_text(plan)).plan(None, plan.fps, plan.chunk, chunks=plan.chunks)


def check_plan(plan):
    """What any plan promises: chunks rise and fill the film, frames follow the clock of each shot."""
    starts = [segment.start_chunk for segment in plan.segments]
    assert starts[0] == 0 and all(a < b for a, b in pairwise(starts))
    assert all(segment.chunks >= 1 for segment in plan.segments)
    assert sum(segment.chunks for segment in plan.segments) == plan.chunks
    shot_chunk = shot_frame = 0
    for segment in plan.segments:
        assert segment.start_frame == shot_frame + shot_boundary(segment.start_chunk - shot_chunk, plan.chunk)
        if segment.transition == "cut":
            shot_chunk, shot_frame = segment.start_chunk, segment.start_frame
    assert plan.frames == shot_frame + shot_boundary(plan.chunks - shot_chunk, plan.chunk)
    assert all(segment.blend < segment.chunks for segment in plan.segments[:-1])


def check_prompts(plan):
    """What the rollout meets: rising chunks inside the film, all weight given, a segment's prompt where it begins."""
    prompts = plan.prompts
    assert all(a.start_chunk < b.start_chunk for a, b in pairwise(prompts)) and prompts[-1].start_chunk < plan.chunks
    assert all(abs(sum(weight for _, weight in prompt.mix) - 1) < 1e-9 for prompt in prompts)
    assert {text for prompt in prompts for text, _ in prompt.mix} == set(plan.texts)
    at = {prompt.start_chunk: prompt for prompt in prompts}
    for segment in plan.segments:
        first = at[segment.start_chunk]
        assert (first.transition, first.seed, first.mix[-1][0]) == (segment.transition, segment.seed, segment.text)
        assert (len(first.mix) == 2) == (segment.blend > 0)


@pytest.mark.slow
def test_any_script_writes_itself():
    """Forbids a script whose own text means something else."""
    rng, parsed, kept, read_all = random.Random(7), set(), 0, 0
    for _ in range(2500):
        try:
            script = parse(random_timeline(rng))
        except TimelineError:
            continue
        parsed.add(script.notation)
        read = parse(script_text(script))
        assert meaning(read)[::2] == meaning(script)[::2]
        assert read.notation in (script.notation, "entries")  # what its own form cannot hold: an odd bracket in a range
        kept += read.notation == script.notation
        read_all += 1
    assert parsed == FORMS and kept > 0.95 * read_all


@pytest.mark.slow
def test_any_plan_is_in_order_and_writes_itself():
    """Forbids plans that run backwards or leave chunks out, and an exact text that is another film."""
    forms, written_as = [], set()
    for form, plan in random_plans(random.Random(8), 4000):
        forms.append(form)
        check_plan(plan)
        check_prompts(plan)
        read = again(plan)
        assert content(read) == content(plan)
        assert read.prompts == plan.prompts
        written_as.add(parse(plan_text(plan)).notation)
    assert set(forms) == FORMS and len(forms) > 300
    assert written_as == {"lines", "scope"}  # scope: a bar with a time after it, which no line can hold


def test_resizing_keeps_every_chunk_that_stays():
    """Forbids a longer or shorter film that renders a common chunk differently, and one that cannot be written."""
    rng, inside = random.Random(9), 0
    for _, plan in random_plans(rng, 1500):
        inside_blends = [segment.start_chunk + 1 for segment in plan.segments if segment.blend]
        chunks = rng.choice([rng.randint(1, 2 * plan.chunks), *inside_blends])
        sized = plan.resized(chunks)
        assert sized.chunks == chunks
        check_plan(sized)
        check_prompts(sized)
        assert sized.prompts == tuple(p for p in plan.prompts if p.start_chunk < chunks)
        inside += sized.segments[-1].blend >= sized.segments[-1].chunks
        assert content(again(sized)) == content(sized)
        if len(sized.segments) == len(plan.segments):
            assert sized.resized(plan.chunks) == plan
    assert inside > 4  # films that end before a blend is over


def test_a_segment_put_in_leaves_the_others():
    """Forbids a new segment that moves another one to a different chunk, loses one, or breaks the plan's promises."""
    rng, added = random.Random(10), 0
    for _, plan in random_plans(rng, 1500):
        chunk = rng.randint(0, plan.chunks + 1)
        words = {"text": rng.choice(["new", "new {cut}", "0s new", "[3D]"]), "seed": rng.choice([None, 7])}
        try:
            changed = with_segment(plan, NewSegment(chunk, **words))
        except TimelineError:
            continue
        added += 1
        check_plan(changed)
        check_prompts(changed)
        assert content(again(changed)) == content(changed)
        assert changed.chunks == plan.chunks
        keys = lambda p: [(s.start_chunk, s.text, s.transition, s.seed, s.blend) for s in p.segments]  # noqa: E731
        assert [key for key in keys(changed) if key[0] != chunk] == [key for key in keys(plan) if key[0] != chunk]
        assert any(segment.start_chunk == chunk and segment.seed == words["seed"] for segment in changed.segments)
    assert added > 80


def planned_anew(plan, chunk, text, seed, transition="recache"):
    """`with_segment` in the long way: the whole plan as a script, with one line more."""
    first, script = 1 if plan.anchor is None else 2, exact_script(plan)
    before = [segment for segment in script.segments if segment.time.chunk < chunk]
    after = [segment for segment in script.segments if segment.time.chunk > chunk]
    options = "" if transition == "recache" else f" {{{transition}}}"
    (new,) = read_timed(f"{chunk}c {text}{options}{'' if seed is None else f' {{seed={seed}}}'}", first + len(before))
    segments = [replace(segment, line=first + index) for index, segment in enumerate([*before, new, *after])]
    check_order(segments)
    hints = tuple(text_hints(segments, script.notation, plan.anchor))
    script = replace(script, segments=tuple(segments), hints=hints)
    changed = script.plan(None, plan.fps, plan.chunk, chunks=plan.chunks)
    check_blend(changed.segments[len(before)], 1)
    return changed


def test_a_segment_put_in_gives_the_plan_that_is_made_from_the_start():
    """Forbids a shorter way that leaves frames, lines, lengths or hints as they were, or takes what is refused."""
    rng, added, refused = random.Random(12), 0, 0
    for _, plan in random_plans(rng, 1500):
        change = {
            "chunk": rng.randint(0, plan.chunks + 1),
            "seed": rng.choice([None, 7]),
            "text": rng.choice(["new", "a cat {blend=2c}", "x {blend=9s}", "0s new", "{keep}", "[0s-5s: a]"]),
            "transition": rng.choice(["recache", "keep", "cut"]),
        }
        try:
            expected = planned_anew(plan, **change)
        except TimelineError as error:
            refused += 1
            with pytest.raises(TimelineError, match=f"^{re.escape(str(error).partition('{blend=')[0])}"):
                with_segment(plan, NewSegment(**change))
        else:
            added += 1
            assert with_segment(plan, NewSegment(**change)) == expected
            assert with_segments(plan, [NewSegment(**change)]) == replace(expected, hints=())
    assert added > 80 and refused > 80


def test_several_segments_at_once_are_as_one_after_the_other():
    """Forbids a film that continues a take otherwise than by its prompts in turn."""
    rng, added = random.Random(13), 0
    for _, plan in random_plans(rng, 800):
        chunks = sorted(rng.sample(range(plan.chunks + 1), min(3, plan.chunks)))
        new = [NewSegment(chunk, f"prompt {chunk}", rng.choice(["recache", "keep", "cut"])) for chunk in chunks]
        try:
            expected = plan
            for segment in new:
                expected = with_segments(expected, [segment])
        except TimelineError:
            continue
        added += 1
        assert with_segments(plan, new) == expected
    assert added > 80


def test_no_text_crashes_the_parser():
    """Forbids any exception but TimelineError, for any text."""
    rng = random.Random(3)
    alphabet = string.printable + '{}[]|:*-\u2013\u96ea\u200b\uff1a\u2028"' * 4 + "0123456789sc" * 3
    for _ in range(6000):
        text = "".join(rng.choice(alphabet) for _ in range(rng.randint(0, 24)))
        if rng.random() < 0.5:
            text = "0s a\n" + text
        try:
            parse(text).plan(rng.choice([None, 20.0]))
        except TimelineError as error:
            assert error.line is None or error.line <= len(re.split("\r\n|[\n\r\x0b\x0c\x85\u2028\u2029]", text))
