"""What the tests of takes share: a story of nine chunks, its store."""

from __future__ import annotations

import json
import shutil

import numpy as np

from longlive_core.takes import Manifest, TakeStore
from longlive_core.timeline import parse
from scripts.harness import graphs, mp4
from scripts.harness.client import ComfyClient, Run
from scripts.harness.graphs import LOAD, SAMPLER, SAVE

STORY = "0s A red ball bounces on a meadow.\n2.5s A blue ball bounces on a meadow.\n5s A star spins on a meadow."
SECONDS = 6.5
PLAN = parse(STORY).plan(SECONDS)
CHUNKS = PLAN.chunks
SIZE = graphs.TINY_SIZE


def frames_in(chunks: int) -> int:
    """Frames of a shot's first chunks."""
    return 12 * chunks - 3


def story(seed: int, on_cancel: str = "keep partial", **inputs) -> dict:
    """The story as a graph, computed in float32, where a render that goes on equals one that never stopped, bit by bit.
    ComfyUI takes graphs that differ in `on_cancel` for two, the store does not."""
    graph = graphs.film(**{"text": STORY, "duration": SECONDS, "seed": seed, "dtype": "fp32", **SIZE, **inputs})
    graph[SAMPLER]["inputs"]["on_cancel"] = on_cancel
    return graph


def with_lora(graph: dict, name: str) -> dict:
    node = {
        "class_type": "LoraLoaderModelOnly",
        "inputs": {"model": [LOAD, 0], "lora_name": name, "strength_model": 1.0},
    }
    graph[SAMPLER]["inputs"]["model"] = ["9", 0]
    return graph | {"9": node}


def report(run: Run) -> dict:
    """The sampler's, of a run that ended well."""
    assert run.status == "execution_success", run.error
    return json.loads(run.outputs[SAMPLER]["text"][0])


def frames(client: ComfyClient, run: Run) -> np.ndarray:
    """Of the saved film."""
    assert run.status == "execution_success", run.error
    return mp4.read(client.view(run.outputs[SAVE]["images"][0])).frames


def store_of(server) -> TakeStore:
    return TakeStore(server.base / "output" / "longlive")


def manifest_of(server, run: Run) -> Manifest:
    return store_of(server).read_manifest(report(run)["take"])


def empty_store(server) -> None:
    """Graphs that ComfyUI remembers from the prompt before still name their takes: queue another one after this."""
    for name in ("chunks", "takes"):
        shutil.rmtree(server.base / "output" / "longlive" / name, ignore_errors=True)


def whole_film(client: ComfyClient, server, graph: dict) -> np.ndarray:
    """The frames that a graph makes in an empty store, in one go; the store is empty again afterwards."""
    empty_store(server)
    run = client.run(graph)
    assert report(run)["rendered_chunks"] == report(run)["chunks"]
    made = frames(client, run)
    empty_store(server)
    return made
