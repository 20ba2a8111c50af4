"""Films through a real server: the shipped workflows, their films, and ComfyUI's other nodes."""

import io
import itertools
import json

import numpy as np
import pytest
from PIL import Image

from longlive_core.checkpoints.built_in import DIT_FILE
from longlive_core.sizes import film_size
from longlive_core.timeline import parse
from scripts.harness import graphs, mp4
from scripts.harness.client import ComfyClient
from scripts.harness.graphs import LOAD, SAMPLER, SAVE, TIMELINE
from scripts.harness.models import LORA

from .tiny_models import TINY_DIT, TINY_VAE

pytestmark = pytest.mark.comfy

LIVE_CHUNKS = 4
LOOKED_AT = ["one_prompt"]  # rendered by the pocket model; of the others only the graph matters
OTHERS = [*graphs.ENDLESS, *graphs.EXTENDING]  # whose films are not as long as their timeline says


def saved(client, run, saver: str = SAVE) -> mp4.DecodedFilm:
    assert run.status == "execution_success", run.error
    return mp4.read(client.view(run.outputs[saver]["images"][0]))


def report_of(run, sampler: str = SAMPLER) -> dict:
    return json.loads(run.outputs[sampler]["text"][0])


@pytest.fixture(scope="module")
def shipped(server):
    """Runs a shipped workflow, once: name -> (run, its films in the order of the workflow)."""
    made = {}

    def run(name: str):
        if name not in made:
            with ComfyClient(server.url) as connection:
                graph = graphs.api(name) if name in LOOKED_AT else graphs.with_tiny_files(graphs.api(name))
                finish = connection.finishing_after(LIVE_CHUNKS) if name in graphs.ENDLESS else None
                ran = connection.run(graph, graphs.ui(name), finish)
                made[name] = ran, [saved(connection, ran, saver) for _, _, saver in graphs.films_of(graph)]
        return made[name]

    return run


@pytest.mark.parametrize("name", [name for name in graphs.POCKET_NAMES if name not in OTHERS])
def test_shipped_workflow_makes_its_films(shipped, server, name):
    """Forbids workflows that do not run, films of the wrong length, lost metadata and a Save Video that re-encodes."""
    graph, workflow = graphs.api(name), graphs.ui(name)
    run, made = shipped(name)
    written = {mp4.packets(path.read_bytes()) for path in (server.base / "temp").glob("*.mp4")}
    for (timeline, sampler, _), film in zip(graphs.films_of(graph), made, strict=True):
        inputs, settings = graph[timeline]["inputs"], graph[sampler]["inputs"]
        plan = parse(inputs["text"]).plan(inputs["duration"])
        small = {"size": "auto", **graphs.TINY_SIZE}
        size = [(settings if name in LOOKED_AT else small)[each] for each in ("size", "width", "height")]
        assert film.size == film_size(*size, "pocket")
        assert len(film.frames) == plan.frames
        assert film.seconds == pytest.approx(plan.seconds, abs=0.01)
        assert name not in LOOKED_AT or film.looks_alive()
        assert json.loads(film.tags["workflow"]) == workflow
        assert json.loads(film.tags["prompt"])[sampler]["class_type"] == "LongLiveStreamSampler"
        assert film.tags["comment"] == inputs["text"]
        assert film.packets in written
        rendered = report_of(run, sampler)["rendered_chunks"]
        assert len([node for node, _ in run.previews if node == sampler]) == rendered <= plan.chunks


def test_extended_film_begins_with_the_first_one(client, shipped):
    """Forbids an extension that renders its beginning again or with a seam, and a last frame that is not the last."""
    graph = graphs.api("extend")
    run, (film,) = shipped("extend")
    first, second = graphs.of_kind(graph, "LongLiveStreamSampler")
    begun, longer = report_of(run, first), report_of(run, second)
    assert longer["chunks"] == 2 * begun["chunks"]
    assert longer["rendered_chunks"] <= begun["chunks"]
    assert len(film.frames) == longer["frames"] == 12 * longer["chunks"] - 3
    assert [s["text"] for s in longer["segments"]] == [
        "A red ball circles on a meadow.",
        "A blue ball circles on a meadow.",
    ]
    saved_image = run.outputs[graphs.of_kind(graph, "SaveImage")[0]]["images"][0]
    last = np.asarray(Image.open(io.BytesIO(client.view(saved_image))).convert("RGB"))
    to_last, to_first = (np.abs(last.astype(int) - film.frames[frame]).mean() for frame in (-1, 0))
    assert 2 * to_last < to_first  # pictures like noise lose much to the encoder


def test_branches_share_their_beginning_only(shipped):
    """Forbids a branch that keeps too much or too little, and two ways that are the same."""
    graph = graphs.api("branch")
    run, (left, right) = shipped("branch")
    (branch,) = graphs.of_kind(graph, "LongLiveBranchTake")
    said = run.outputs[branch]["text"][0]
    assert said.startswith("branched at 2.81 s (3 s requested): 4 chunks stay\n")
    kept = 12 * 4 - 3
    assert np.array_equal(left.frames[:kept], right.frames[:kept])
    assert not np.array_equal(left.frames[kept : kept + 12], right.frames[kept : kept + 9])
    assert len(left.frames) == len(right.frames) + 3  # a cut begins with a chunk of 9
    reports = [report_of(run, sampler) for _, sampler, _ in graphs.films_of(graph)]
    assert [report["segments"][-1]["transition"] for report in reports] == ["recache", "cut"]


def test_endless_film_ends_where_it_is_finished(shipped):
    """Forbids a film without end that Finish does not end, or ends without its file."""
    graph = graphs.api("live")
    run, (film,) = shipped("live")
    report = report_of(run, graphs.of_kind(graph, "LongLiveStreamSampler")[0])
    assert len(film.frames) == report["frames"] == 12 * report["chunks"] - 3
    assert report["chunks"] >= LIVE_CHUNKS
    assert (report["chunks_asked"], report["partial"]) == (None, False)


def test_transitions_differ_from_the_change_on(shipped):
    """Forbids a comparison of equal films, and a transition that reaches back before its time."""
    graph = graphs.api("transitions_compared")
    run, made = shipped("transitions_compared")
    sampler = graphs.films_of(graph)[0][1]
    change = report_of(run, sampler)["segments"][1]["start_frame"]
    for one, other in itertools.combinations(made, 2):
        assert np.array_equal(one.frames[:change], other.frames[:change])
        assert not np.array_equal(one.frames[change : change + 12], other.frames[change : change + 12])


def test_seeds_make_different_films(shipped):
    """Forbids a batch whose films are all the same."""
    _, made = shipped("batch_of_seeds")
    assert len({film.packets for film in made}) == len(made) == 4


def test_reports(short_film):
    """Forbids nodes that keep snapped times and figures to themselves."""
    run, _ = short_film
    assert "\n1.31 s (requested 1.5 s): A blue ball" in run.outputs[TIMELINE]["text"][0]
    report = report_of(run)
    assert (report["frames"], report["chunks"], report["positions"]) == (33, 3, "relative")
    assert [segment["start_frame"] for segment in report["segments"]] == [0, 21]


def test_progress_goes_chunk_by_chunk_to_the_end(short_film):
    """Forbids a bar that runs backwards, leaves out a chunk or does not reach its end.

    That every pass counts is in tests/hosts: newer versions send at most ten values a second.
    """
    run, _ = short_film
    values = [data["value"] for data in run.of("progress") if data["node"] == SAMPLER]
    assert values == sorted(values)
    assert {0, 5, 10, 15} <= set(values) <= set(range(3 * 5 + 1))


def test_equal_inputs_give_an_equal_film(client, server, short_film):
    """Forbids noise, threads or the clock in a film; the second one is rendered after everything was unloaded."""
    _, content = short_film
    server.forget_takes()
    client.post("/free", {"unload_models": True, "free_memory": True})
    run = client.run(graphs.film(), graphs.ui("one_prompt"))
    assert LOAD not in run.cached
    again, before = saved(client, run), mp4.read(content)
    assert again.packets == before.packets
    assert again.tags["comment"] == before.tags["comment"] and again.tags["longlive"] == before.tags["longlive"]


def test_later_seed_reuses_the_timeline(client, short_film):
    """Forbids a node that makes ComfyUI load and encode again when only the seed changes; other seed, other film."""
    run = client.run(graphs.film(seed=99))
    assert {LOAD, TIMELINE} <= run.cached
    assert not np.array_equal(saved(client, run).frames, mp4.read(short_film[1]).frames)


def test_lora_changes_the_film(client, server, short_film):
    """Forbids a sampler that reads weights past ComfyUI's patches."""
    graph = graphs.film()
    graph["9"] = {
        "class_type": "LoraLoaderModelOnly",
        "inputs": {"model": [LOAD, 0], "lora_name": LORA, "strength_model": 1.0},
    }
    graph[SAMPLER]["inputs"]["model"] = ["9", 0]
    run = client.run(graph)
    assert report_of(run)["rendered_chunks"] == 3
    with_lora = saved(client, run).frames
    without = mp4.read(short_film[1]).frames
    assert np.abs(with_lora.astype(int) - without).mean() > 1
    server.forget_takes()
    again = saved(client, client.run(graphs.film(filename_prefix="after_lora"))).frames
    assert np.array_equal(again, without)


def test_a_checkpoint_of_the_pocket_models_training_needs_no_other_file(client, server):
    """Forbids requiring a text encoder and a VAE, which do not exist, from a user who trained the pocket model."""
    server.forget_takes()
    built_in = saved(client, client.run(graphs.film(graphs.POCKET)))
    server.forget_takes()
    run = client.run(graphs.film({**graphs.POCKET, "model": DIT_FILE}))
    assert LOAD not in run.cached
    assert np.array_equal(saved(client, run).frames, built_in.frames)


def test_comfyui_loaders_give_the_same_film(client, server):
    """Forbids a Load LongLive whose MODEL and VAE are not ComfyUI's own."""
    own = saved(client, client.run(graphs.film(dtype="fp32"))).frames
    server.forget_takes()
    graph = graphs.film(dtype="fp32")
    graph["8"] = {"class_type": "UNETLoader", "inputs": {"unet_name": TINY_DIT, "weight_dtype": "default"}}
    graph["9"] = {"class_type": "VAELoader", "inputs": {"vae_name": TINY_VAE}}
    graph[SAMPLER]["inputs"].update(model=["8", 0], vae=["9", 0])
    assert np.array_equal(saved(client, client.run(graph)).frames, own)


def test_pocket_clip_works_in_clip_text_encode(client):
    """Forbids a CLIP that only our own node can use."""
    graph = {LOAD: graphs.film()[LOAD]}
    graph["8"] = {"class_type": "CLIPTextEncode", "inputs": {"clip": [LOAD, 1], "text": "A red ball"}}
    graph["9"] = {"class_type": "PreviewAny", "inputs": {"source": ["8", 0]}}
    run = client.run(graph)
    assert run.status == "execution_success", run.error
    assert "tensor" in run.outputs["9"]["text"][0]


@pytest.mark.parametrize(
    "settings",
    [
        {"chunk": 1, "window": 6, "sink": 2},
        {"window": -1, "sink": 0, "positions": "absolute"},
        {"sink_policy": "refreshed", "steps": 2, "fps": 24.0},
    ],
    ids=["frame-wise", "no window", "refreshed"],
)
def test_advanced_settings(client, settings):
    """Forbids settings without effect: each combination renders, at its own length."""
    run = client.run(graphs.film(**settings))
    film = saved(client, run)
    plan = parse(graphs.TEXT).plan(graphs.SECONDS, settings.get("fps", 16), settings.get("chunk", 3))
    assert len(film.frames) == plan.frames
    assert film.seconds == pytest.approx(plan.seconds, abs=0.01)
