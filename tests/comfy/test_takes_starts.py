"""What a film begins with, through a real server: takes, branches, pictures, latents; and frames out of a take."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.harness.client import Rejected
from scripts.harness.graphs import POCKET, SAMPLER

from .takes import CHUNKS, STORY, empty_store, frames, frames_in, manifest_of, report, story, whole_film

pytestmark = pytest.mark.comfy
SEED = 81
NEW = "A blue star spins in the snow."
SHORT = {"text": STORY.splitlines()[0], "duration": frames_in(2) / 16}
OWN_SIZE = {"width": 128, "height": 80}  # the pocket model's


@pytest.fixture(autouse=True)
def fresh(server):
    empty_store(server)


def take_frames(graph: dict, take: list, first: int, count: int, vae: bool = False, node: str = "20") -> dict:
    """With Take Frames, its pictures and its last one as PNGs (nodes node + "1", node + "2")."""
    inputs = {"take": take, "first": first, "frames": count, **({"vae": ["1", 2]} if vae else {})}
    return graph | {
        node: {"class_type": "LongLiveTakeFrames", "inputs": inputs},
        f"{node}1": {"class_type": "SaveImage", "inputs": {"images": [node, 0], "filename_prefix": "frames"}},
        f"{node}2": {"class_type": "SaveImage", "inputs": {"images": [node, 2], "filename_prefix": "last"}},
    }


def pictures(client, run, node: str) -> np.ndarray:
    files = run.outputs[node]["images"]
    return np.stack([np.asarray(Image.open(io.BytesIO(client.view(file))).convert("RGB")) for file in files])


def close(one: np.ndarray, other: np.ndarray, most: float) -> bool:
    """Equal shapes, and no further apart than `most` of 255 on average."""
    return one.shape == other.shape and np.abs(one.astype(int) - other.astype(int)).mean() <= most


def loads(graph: dict, name: str = "newest") -> dict:
    """Extends a loaded take."""
    graph[SAMPLER]["inputs"]["take"] = ["30", 0]
    return graph | {"30": {"class_type": "LongLiveLoadTake", "inputs": {"name": name}}}


def test_going_on_after_a_take_is_the_longer_film(client, server):
    """Forbids a seam: an extension with the same prompt equals a film that was longer from the start."""
    one = STORY.splitlines()[0]
    whole = whole_film(client, server, story(SEED, "discard", text=one, duration=frames_in(6) / 16))
    first = client.run(story(SEED, text=one, duration=frames_in(3) / 16))
    run = client.run(loads(story(SEED, text=one, duration=frames_in(3) / 16)))
    assert (report(run)["chunks"], report(run)["rendered_chunks"]) == (6, 3)
    assert np.array_equal(frames(client, run), whole)
    assert report(run)["take"] != report(first)["take"]


def test_a_branch_continues_from_the_middle(client, server):
    """Forbids a branch that renders its beginning, changes it, or changes the take it came from."""
    first = client.run(story(SEED))
    graph = loads(story(SEED, text=f"0s {NEW}", duration=frames_in(2) / 16), report(first)["take"])
    graph[SAMPLER]["inputs"]["take"] = ["31", 0]
    graph["31"] = {"class_type": "LongLiveBranchTake", "inputs": {"take": ["30", 0], "chunks": 4}}
    run = client.run(graph)
    reported, made = report(run), frames(client, run)
    assert (reported["chunks"], reported["rendered_chunks"]) == (6, 2)
    assert [segment["start_chunk"] for segment in reported["segments"]][-1] == 4
    before = frames(client, first)
    assert np.array_equal(made[: frames_in(4)], before[: frames_in(4)])
    assert not np.array_equal(made[frames_in(4) :], before[frames_in(4) : frames_in(6)])
    assert manifest_of(server, first).timeline == STORY
    graph["31"]["inputs"]["chunks"] = CHUNKS + 1
    assert f"has {CHUNKS} chunks" in client.run(graph).error


def test_take_frames_are_those_of_the_film(client):
    """Forbids pictures of another range, of another film, or colours that differ from the film's."""
    graph = take_frames(story(SEED, files=POCKET, **SHORT), [SAMPLER, 1], 4, 10)
    graph = take_frames(graph, [SAMPLER, 1], -16, 16, vae=True, node="40")
    graph["50"] = {"class_type": "LongLiveTakeFrames", "inputs": {"take": [SAMPLER, 1], "first": 0, "frames": 9}}
    graph["51"] = {"class_type": "VAEDecode", "inputs": {"samples": ["50", 1], "vae": ["1", 2]}}
    graph["52"] = {"class_type": "SaveImage", "inputs": {"images": ["51", 0], "filename_prefix": "decoded"}}
    run = client.run(graph)
    film = frames(client, run)
    assert np.abs(pictures(client, run, "201").astype(int) - film[4:14]).max() <= 1  # Save Image rounds down
    assert np.abs(pictures(client, run, "202").astype(int) - film[-1:]).max() <= 1
    assert close(pictures(client, run, "401"), film[-16:], 4)
    assert close(pictures(client, run, "402"), film[-1:], 4)
    assert close(pictures(client, run, "52"), film[:9], 4)


def test_a_picture_and_its_latents_begin_a_film(client, server):
    """Forbids a film that does not begin with its picture; LATENT of ComfyUI's own encoder begins the same one."""
    made = client.run(take_frames(story(SEED + 1, files=POCKET, **SHORT, **OWN_SIZE), [SAMPLER, 1], 0, 1))
    file = made.outputs["202"]["images"][0]
    png = Path(server.base / "output" / file["subfolder"] / file["filename"])
    shutil.copy(png, server.base / "input" / "start.png")
    picture = pictures(client, made, "202")[0]
    graph = story(SEED, files=POCKET, text="0s A star spins on a meadow.", duration=frames_in(4) / 16, **OWN_SIZE)
    graph["60"] = {"class_type": "LoadImage", "inputs": {"image": "start.png"}}
    graph[SAMPLER]["inputs"]["start_image"] = ["60", 0]
    run = client.run(graph)
    reported, with_picture = report(run), frames(client, run)
    assert (reported["chunks"], reported["rendered_chunks"]) == (4, 3)
    assert close(with_picture[0], picture, 8)
    latent = {node: entry for node, entry in graph.items() if node != SAMPLER} | {
        "61": {"class_type": "RepeatImageBatch", "inputs": {"image": ["60", 0], "amount": 9}},
        "62": {"class_type": "VAEEncode", "inputs": {"pixels": ["61", 0], "vae": ["1", 2]}},
        SAMPLER: {**graph[SAMPLER], "inputs": {**graph[SAMPLER]["inputs"], "start_latent": ["62", 0]}},
    }
    with pytest.raises(Rejected, match="start_image and start_latent are connected"):
        client.run(latent)
    del latent[SAMPLER]["inputs"]["start_image"]
    run = client.run(latent)
    assert report(run)["chunks"] == 4
    assert close(frames(client, run), with_picture, 3)


def test_load_take_takes_the_newest(client, server):
    """Forbids a result that ComfyUI remembers from before another take came."""
    graph = {
        "30": {"class_type": "LongLiveLoadTake", "inputs": {"name": "newest"}},
        "31": {"class_type": "PreviewAny", "inputs": {"source": ["30", 0]}},
    }
    assert "there is no take yet" in client.run(graph).error
    for seed in (SEED, SEED + 1):
        made = client.run(story(seed, text="0s A ball", duration=1.0))
        run = client.run(graph)
        assert run.outputs["30"]["text"][0].startswith("1.31 s: 2 chunks, 64x48\nA ball\ntake " + report(made)["take"])
    assert SAMPLER not in run.outputs
