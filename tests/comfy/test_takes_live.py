"""Films that are steered while a real server renders them, and the events that clients receive."""

import json
import uuid

import numpy as np
import pytest

from scripts.harness import mp4
from scripts.harness.client import CHUNK_EVENT, ComfyClient
from scripts.harness.graphs import SAMPLER

from .gate import at
from .takes import (
    CHUNKS,
    PLAN,
    SECONDS,
    STORY,
    empty_store,
    frames,
    frames_in,
    manifest_of,
    report,
    store_of,
    story,
    whole_film,
)

pytestmark = pytest.mark.comfy
SEED = 61
NEW = "A blue star spins in the snow."


def steering(client, answers: list, *requests: tuple[str, dict]):
    """Sends requests to the film once its second chunk is there, and keeps the answers."""

    def act(run):
        answers.extend(client.post(f"/longlive/live/{SAMPLER}/{path}", body) for path, body in requests)

    return at(client, CHUNK_EVENT, act, chunk=1)


@pytest.fixture(autouse=True)
def fresh(server):
    empty_store(server)


@pytest.mark.parametrize("transition", ["recache", "keep", "cut"])
def test_a_prompt_typed_now_is_in_the_timeline(client, server, transition):
    """Forbids a film that cannot be rendered again, and a later queue that treats it as the requested one."""
    answers = []
    run = client.run(
        story(SEED, text=STORY.splitlines()[0]),
        on_event=steering(client, answers, ("prompt", {"text": NEW, "transition": transition})),
    )
    chunk, made, manifest = answers[0]["chunk"], frames(client, run), manifest_of(server, run)
    option = "" if transition == "recache" else f" {{{transition}}}"
    assert 2 <= chunk < CHUNKS and manifest.timeline.splitlines()[1] == f"{chunk}c {NEW}{option}"
    assert answers[0]["prompt_id"] == run.prompt_id and answers[0]["timeline"] == manifest.timeline
    reported = report(run)
    assert reported["take"] == manifest.id and [s["start_chunk"] for s in reported["segments"]] == [0, chunk]
    # As the inputs request, from the stored chunks; then the steered film from its timeline, from nothing.
    unsteered = client.run(story(SEED, text=STORY.splitlines()[0]))
    assert report(unsteered)["rendered_chunks"] == CHUNKS - chunk
    assert np.array_equal(frames(client, unsteered)[: frames_in(chunk)], made[: frames_in(chunk)])
    assert len(report(unsteered)["segments"]) == 1
    seconds = len(made) / 16
    assert np.array_equal(whole_film(client, server, story(SEED, text=manifest.timeline, duration=seconds)), made)


def test_a_prompt_for_later(client, server):
    """Forbids a prompt that comes at once, or not where its time snaps to; several follow each other."""
    answers = []
    later = ("prompt", {"text": NEW, "at": "5s"}), ("prompt", {"text": "A ball", "at": "8c"})
    run = client.run(story(SEED, text=STORY.splitlines()[0]), on_event=steering(client, answers, *later))
    assert [answer["chunk"] for answer in answers] == [PLAN.chunk_at(5.0), 8]
    assert manifest_of(server, run).timeline == f"{STORY.splitlines()[0].replace('0s', '0c')}\n7c {NEW}\n8c A ball"
    assert report(run)["partial"] is False
    assert len(list(store_of(server).takes())) == 1


def test_a_film_without_end(client, server):
    """Forbids an end at the timeline's own length, an unknown total, and a Finish that loses the film."""
    answers, longer = [], CHUNKS + 4

    def finish(run):
        answers.append(client.post(f"/longlive/live/{SAMPLER}/finish", {}))

    run = client.run(story(SEED, duration=0.0), on_event=at(client, CHUNK_EVENT, finish, chunk=longer))
    reported = report(run)
    assert reported["chunks"] == answers[0]["next_chunk"] > longer and reported["chunks_asked"] is None
    made = frames(client, run)
    assert len(made) == reported["frames"] == frames_in(reported["chunks"])
    assert {data["chunks"] for data in run.of(CHUNK_EVENT)} == {None}
    assert len(manifest_of(server, run).keys) == reported["chunks"]
    ended = client.run(story(SEED, duration=SECONDS))
    assert report(ended)["rendered_chunks"] == 0
    assert np.array_equal(frames(client, ended), made[: frames_in(CHUNKS)])


def test_events_tell_the_client_that_queued_and_nobody_else(client, server):
    """Forbids missing fields, chunks left out, a growing film that does not play, and telling strangers."""
    playable = []

    def look(run):
        data = run.of(CHUNK_EVENT)[-1]
        playable.append((data["chunk"], mp4.read(client.view(data["file"])).frames))

    with ComfyClient(server.url) as other:
        run = client.run(story(SEED + 1), on_event=at(client, CHUNK_EVENT, look, chunk=3))
        kinds = until_own_end(other)
    events = run.of(CHUNK_EVENT)
    assert [data["chunk"] for data in events] == list(range(CHUNKS))
    assert [data["frames"] for data in events] == [frames_in(chunk + 1) for chunk in range(CHUNKS)]
    for data in events:
        assert (data["node"], data["prompt_id"], data["chunks"]) == (SAMPLER, run.prompt_id, CHUNKS)
        assert data["frames_per_second"] > 0 and data["eta_seconds"] is not None
        texts = [segment.text for segment in PLAN.segments if segment.start_chunk <= data["chunk"]]
        assert data["segment"]["text"] == texts[-1]
        assert set(data["file"]) == {"filename", "subfolder", "type"} and data["take"] == report(run)["take"]
    assert json.dumps(events[-1]["eta_seconds"]) in ("0", "0.0")
    ((chunk, growing),) = playable
    assert len(growing) >= frames_in(chunk)  # the newest may wait for the next
    assert np.array_equal(growing, frames(client, run)[: len(growing)])
    assert CHUNK_EVENT not in kinds and "execution_success" in kinds


def until_own_end(client) -> set[str]:
    """Kinds of all messages that a client got up to the end of a prompt that it queues now."""
    prompt_id, kinds = str(uuid.uuid4()), set()
    graph = {
        "1": {"class_type": "PrimitiveString", "inputs": {"value": prompt_id}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }
    client.post("/prompt", {"prompt": graph, "client_id": client.id, "prompt_id": prompt_id})
    while True:
        message = client.socket.recv()
        if isinstance(message, bytes):
            continue
        event = json.loads(message)
        kinds.add(event["type"])
        if event["type"] == "execution_success" and event["data"]["prompt_id"] == prompt_id:
            return kinds
