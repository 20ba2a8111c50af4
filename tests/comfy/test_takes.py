"""Takes through a real server: the results of Cancel, Finish and edits, and that nothing is rendered twice."""

import json

import numpy as np
import pytest

from scripts.harness.client import CHUNK_EVENT
from scripts.harness.graphs import SAMPLER, SAVE
from scripts.harness.models import LORA

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
    with_lora,
)

pytestmark = pytest.mark.comfy
SEED = 31


@pytest.fixture(scope="module")
def whole(server):
    """The story's frames, rendered without interruption."""
    from scripts.harness.client import ComfyClient

    with ComfyClient(server.url) as connection:
        return whole_film(connection, server, story(SEED, filename_prefix="whole"))


@pytest.fixture(autouse=True)
def fresh(client, server, whole):
    """Every test begins with an empty store, and a ComfyUI that remembers none of its graphs."""
    client.run(story(0, duration=0.5, text="0s A ball"))
    empty_store(server)


def ends(client, server, run, whole, reused: int) -> None:
    """Queue the same graph again: it renders what is missing after `reused` chunks, and the film equals `whole`."""
    again = client.run(story(SEED))
    reported = report(again)
    assert (reported["rendered_chunks"], reported["chunks"], reported["partial"]) == (CHUNKS - reused, CHUNKS, False)
    assert f"{reused} of {CHUNKS} chunks reused" in reported["reused"]
    assert np.array_equal(frames(client, again), whole)


def test_cancel_keeps_a_film_and_the_next_queue_continues(client, server, whole):
    """Forbids losing the film to Cancel, a partial film that ComfyUI takes for the whole, and rendering twice."""
    run = client.run(story(SEED), on_event=at(client, CHUNK_EVENT, client.interrupt, chunk=2))
    reported = report(run)
    done = reported["chunks"]
    assert reported["partial"] and 3 <= done < CHUNKS
    assert (reported["frames"], reported["chunks_asked"]) == (frames_in(done), CHUNKS)
    assert np.array_equal(frames(client, run), whole[: frames_in(done)])
    ends(client, server, run, whole, done)


def test_cancel_before_the_first_chunk_leaves_no_film(client, server):
    """Forbids a Save Video that gets a film of nothing."""
    run = client.run(story(SEED), on_event=at(client, "executing", client.interrupt, node=SAMPLER))
    assert run.status == "execution_interrupted"
    assert SAVE not in run.outputs and SAMPLER not in run.outputs
    assert not list((server.base / "output" / "longlive").glob("takes/*/film.mp4"))


def test_discard_stops_everything_and_keeps_the_chunks(client, server, whole):
    """Forbids discarding the work together with the film."""
    temporary = set((server.base / "temp").iterdir())
    run = client.run(story(SEED, "discard"), on_event=at(client, CHUNK_EVENT, client.interrupt, chunk=2))
    assert run.status == "execution_interrupted"
    assert SAVE not in run.outputs
    assert set((server.base / "temp").iterdir()) == temporary
    (take,) = store_of(server).takes()
    done = store_of(server).done(take)
    assert 3 <= done < CHUNKS
    ends(client, server, run, whole, done)


def test_finish_ends_the_film_and_is_not_taken_for_the_whole(client, server, whole):
    """Forbids a Finish that throws the chunk in flight away, and one that the next queue remembers."""
    answers = []

    def finish(run):
        answers.append(client.post(f"/longlive/live/{SAMPLER}/finish", {}))

    run = client.run(story(SEED), on_event=at(client, CHUNK_EVENT, finish, chunk=2))
    reported, (answer,) = report(run), answers
    assert answer["state"] == "finishing" and answer["prompt_id"] == run.prompt_id
    assert reported["partial"] and reported["chunks"] == answer["next_chunk"] < CHUNKS
    assert np.array_equal(frames(client, run), whole[: frames_in(reported["chunks"])])
    ends(client, server, run, whole, reported["chunks"])


def test_an_edit_renders_from_there_on_and_says_why(client, server, whole):
    """Forbids rendering the beginning again, or keeping a beginning that the edit concerns."""
    client.run(story(SEED))
    edited = STORY.replace("A star spins", "A triangle spins")
    run = client.run(story(SEED, text=edited))
    third = PLAN.segments[2].start_chunk
    reported = report(run)
    assert f"prompt 3 changed: {third} of {CHUNKS} chunks reused" in reported["reused"]
    assert reported["rendered_chunks"] == CHUNKS - third
    made = frames(client, run)
    assert np.array_equal(made[: frames_in(third)], whole[: frames_in(third)])
    assert not np.array_equal(made, whole)
    assert np.array_equal(made, whole_film(client, server, story(SEED, "discard", text=edited)))


def test_a_film_that_is_there_is_not_made_again(client, server, whole):
    """Forbids a restart of ComfyUI, or a graph built anew, that costs the hours again."""
    client.run(story(SEED))
    run = client.run(story(SEED, "discard"))
    reported = report(run)
    assert (reported["rendered_chunks"], reported["partial"]) == (0, False)
    assert f"{CHUNKS} of {CHUNKS} chunks reused" in reported["reused"]
    assert np.array_equal(frames(client, run), whole)
    longer = client.run(story(SEED, duration=SECONDS + 1.5))
    assert report(longer)["rendered_chunks"] == 2
    assert "the film became longer" in report(longer)["reused"]
    assert np.array_equal(frames(client, longer)[: len(whole)], whole)


def test_a_patched_model_is_another_take(client, server, whole):
    """Forbids chunks of the plain model in a film of the LoRA, and losing the plain film to it."""
    plain = client.run(story(SEED))
    patched = client.run(with_lora(story(SEED), LORA))
    reported = report(patched)
    assert (reported["rendered_chunks"], reported["take"] == report(plain)["take"]) == (CHUNKS, False)
    assert "the model changed" in reported["reused"]
    assert not np.array_equal(frames(client, patched)[:9], whole[:9])
    back = client.run(story(SEED, "discard"))
    assert report(back)["rendered_chunks"] == 0
    assert np.array_equal(frames(client, back), whole)


def test_the_store_says_what_the_take_is(client, server):
    """Forbids a take that only the program that rendered it can use."""
    run = client.run(story(SEED))
    manifest = manifest_of(server, run)
    assert manifest.timeline == STORY
    assert manifest.origin["seed"] == SEED and manifest.origin["size"] == [64, 48]
    assert [segment["chunk"] for segment in manifest.segments] == [s.start_chunk for s in PLAN.segments]
    assert len(manifest.keys) == CHUNKS == store_of(server).done(manifest)
    (listed,) = client.get("/longlive/takes")["takes"]
    assert (listed["take"], listed["rendered"], listed["timeline"]) == (manifest.id, CHUNKS, STORY)
    assert client.view(listed["film"]) == (store_of(server).take_folder(manifest.id) / "film.mp4").read_bytes()
    assert json.loads((store_of(server).take_folder(manifest.id) / "take.json").read_text())["id"] == manifest.id
