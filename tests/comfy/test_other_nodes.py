"""Nodes of ComfyUI's own between the loader and the Stream Sampler: its report says what they do."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from scripts.harness import graphs, mp4
from scripts.harness.graphs import LOAD, SAMPLER, SAVE

pytestmark = pytest.mark.comfy

SHIFT, RESCALE = "11", "12"  # node ids


def test_nodes_without_effect_are_named(server, client, short_film):
    """Forbids a sampling shift and a CFG node that change the film, or are ignored in silence."""
    server.forget_takes()
    graph = graphs.film(filename_prefix="other_nodes")
    graph[SHIFT] = {"class_type": "ModelSamplingSD3", "inputs": {"model": [LOAD, 0], "shift": 3.0}}
    graph[RESCALE] = {"class_type": "RescaleCFG", "inputs": {"model": [SHIFT, 0], "multiplier": 0.7}}
    graph[SAMPLER]["inputs"]["model"] = [RESCALE, 0]
    run = client.run(graph)
    assert run.status == "execution_success", run.error
    lines = json.loads(run.outputs[SAMPLER]["text"][0])["no_effect"]
    for found in ("part model_sampling .*: .*set its shift", "option sampler_cfg_function RescaleCFG: there is no CFG"):
        assert [line for line in lines if re.match(found, line)], lines
    film = mp4.read(client.view(run.outputs[SAVE]["images"][0]))
    assert np.array_equal(film.frames, mp4.read(short_film[1]).frames)
