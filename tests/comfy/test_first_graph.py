"""The first graph: wired from the search box, with every default; and graphs from before there was a size."""

import json

import pytest

from longlive_core.timeline import parse
from scripts.harness import graphs, mp4
from scripts.harness.client import Rejected
from scripts.harness.graphs import LOAD, SAMPLER, SAVE, TIMELINE

from .validation import SCALARS, slots_of

pytestmark = pytest.mark.comfy

KINDS = {LOAD: "LongLiveLoad", TIMELINE: "LongLivePromptTimeline", SAMPLER: "LongLiveStreamSampler", SAVE: "SaveVideo"}
# As programs have sent them so far: every input, and no size.
EARLIER = {
    "seed": 21,
    "width": 64,
    "height": 48,
    "steps": 4,
    "shift": 5.0,
    "window": 12,
    "sink": 3,
    "sink_policy": "held",
    "chunk": 3,
    "positions": "auto",
    "on_cancel": "keep partial",
}


def from_the_search_box(object_info: dict) -> dict:
    """Four nodes as the browser creates them, widgets at their defaults, wired by the types of their sockets."""
    graph, made = {}, {}
    for node, kind in KINDS.items():
        info, inputs = object_info[kind], {}
        for slot in slots_of(info["input"], inputs):
            if slot.choices is not None:
                inputs[slot.name] = slot.options.get("default", slot.choices[0])
            elif slot.spec[0] in SCALARS:
                inputs[slot.name] = slot.options["default"]
            elif slot.required:
                inputs[slot.name] = made[slot.spec[0]]
        made |= {output: [node, number] for number, output in enumerate(info["output"])}
        graph[node] = {"class_type": kind, "inputs": inputs}
    return graph


def report(run) -> dict:
    assert run.status == "execution_success", run.error
    return json.loads(run.outputs[SAMPLER]["text"][0])


def test_every_default_gives_a_film(client, object_info, server):
    """Forbids defaults with which the user must enter a number, a file or a prompt before a film is rendered."""
    server.forget_takes()
    graph = from_the_search_box(object_info)
    run = client.run(graph)
    made = report(run)
    text, seconds = graph[TIMELINE]["inputs"]["text"], graph[TIMELINE]["inputs"]["duration"]
    plan = parse(text).plan(seconds)
    assert (made["width"], made["height"]) == (128, 80)
    assert (made["frames"], made["chunks"]) == (plan.frames, plan.chunks)
    film = mp4.read(client.view(run.outputs[SAVE]["images"][0]))
    assert film.size == (128, 80) and film.looks_alive()
    # It is short enough for any CPU, and every prompt has the two chunks that it needs to show.
    assert plan.seconds <= 10 and all(segment.chunks >= 2 for segment in plan.segments) and plan.hints == ()
    again = client.run(graph)
    assert again.status == "execution_success" and SAMPLER in again.cached, "a fixed seed: it is the same film"


def test_graphs_from_before_there_was_a_size(client, server):
    """Forbids that a program's graph is refused, or renders another film, because inputs are new, moved or omitted."""
    server.forget_takes()
    new = graphs.film(seed=21, width=64, height=48)
    sockets = {name: new[SAMPLER]["inputs"][name] for name in ("model", "vae", "timeline")}
    old = graphs.film()
    old[SAMPLER]["inputs"] = sockets | EARLIER
    first = report(client.run(old))
    assert (first["rendered_chunks"], first["width"], first["height"]) == (3, 64, 48)
    short = graphs.film(filename_prefix="short")
    short[SAMPLER]["inputs"] = sockets | {"seed": 21, "width": 64, "height": 48}
    for graph in (new, short):
        graph[SAVE]["inputs"]["filename_prefix"] = "another"
        made = report(client.run(graph))
        assert (made["rendered_chunks"], made["take"]) == (0, first["take"])


def test_auto_is_what_a_take_has(client, server):
    """Forbids a film that extends a take and is refused because its size is not the model's own."""
    server.forget_takes()
    report(client.run(graphs.film(width=64, height=48, seed=22, duration=1.0, text="0s A red ball bounces.")))
    graph = graphs.film(seed=22, duration=0.5, text="0s A red ball bounces. {cut}")
    graph["8"] = {"class_type": "LongLiveLoadTake", "inputs": {"name": "newest"}}
    graph[SAMPLER]["inputs"]["take"] = ["8", 0]
    made = report(client.run(graph))
    assert (made["width"], made["height"], made["chunks"]) == (64, 48, 3)


def test_the_server_checks_whole_prompts(client):
    """Forbids that the nodes around a node are checked in tests only, and a server that does not check them."""
    with pytest.raises(Rejected) as refusal:
        client.run(graphs.film(text="0s A red ball {cut}", duration=float("nan")))
    assert [len(errors["errors"]) for errors in refusal.value.answer["node_errors"].values()] == [1]
    graph = graphs.film(width=64, duration=1.0)
    with pytest.raises(Rejected) as refusal:
        client.run(graph)
    (error,) = refusal.value.answer["node_errors"][SAMPLER]["errors"]
    assert error["details"].endswith("width 64 without a height: give both, or neither (0)")
