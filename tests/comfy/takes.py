"""Shared by the tests of takes: a story of nine chunks, and its store."""

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
    """Return the number of frames in a shot's first chunks."""
    return 12 * chunks - 3


def story(seed: int, on_cancel: str = "keep partial", **inputs) -> dict:
    """The story as a graph, computed in float32, where a resumed render equals an uninterrupted one bit by bit.
    Graphs that differ in `on_cancel` are two for ComfyUI, but one for the store."""
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
    """Return the sampler's report of a successful run."""
    assert run.status == "execution_success", run.error
    return json.loads(run.outputs[SAMPLER]["text"][0])


def frames(client: ComfyClient, run: Run) -> np.ndarray:
    """Return the frames of the saved film."""
    assert run.status == "execution_success", run.error
    return mp4.read(client.view(run.outputs[SAVE]["images"][0])).frames


def store_of(server) -> TakeStore:
    return TakeStore(server.base / "output" / "longlive")


def manifest_of(server, run: Run) -> Manifest:
    return store_of(server).read_manifest(report(run)["take"])


def empty_store(server) -> None:
    """Empty the store. ComfyUI's cache of the last prompt still names its takes: queue another graph afterwards."""
    for name in ("chunks", "takes"):
        shutil.rmtree(server.base / "output" / "longlive" / name, ignore_errors=True)


def whole_film(client: ComfyClient, server, graph: dict) -> np.ndarray:
    """Return the frames of a graph rendered without interruption in an empty store; empty the store afterwards."""
    empty_store(server)
    run = client.run(graph)
    assert report(run)["rendered_chunks"] == report(run)["chunks"]
    made = frames(client, run)
    empty_store(server)
    return made
