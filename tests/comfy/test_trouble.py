"""Faults: cancelling, bad inputs, bad files. After each of them the server still renders."""

import numpy as np
import pytest

from longlive_core.checkpoints.built_in import TEXT_ENCODER_FILE, VAE_FILE
from scripts.harness import graphs, mp4
from scripts.harness.client import ComfyClient, Rejected
from scripts.harness.graphs import SAMPLER, SAVE, TIMELINE

from .conftest import PICKLED, TRUNCATED
from .gate import at

pytestmark = pytest.mark.comfy


@pytest.fixture(autouse=True)
def still_renders(client, server, first_chunk):
    """Forbids lasting faults: a film of one chunk is the same afterwards as before."""
    yield
    server.forget_takes()
    assert np.array_equal(one_chunk(client, "afterwards"), first_chunk)


@pytest.fixture(scope="session")
def first_chunk(server):
    with ComfyClient(server.url) as connection:
        return one_chunk(connection, "before")


def one_chunk(client, prefix: str) -> np.ndarray:
    """A film of nine frames. A prefix of its own keeps ComfyUI from taking it for one that it knows."""
    run = client.run(graphs.film(text="0s A red ball", duration=0.5, width=64, height=48, filename_prefix=prefix))
    assert run.status == "execution_success", run.error
    return mp4.read(client.view(run.outputs[SAVE]["images"][0])).frames


def test_cancel_acts_within_a_step_and_leaves_no_file(client, server):
    """Forbids a Cancel that waits for the chunk or the film, and half films in the temporary folder."""
    before, seen = set((server.base / "temp").iterdir()), []
    cancel = at(client, "progress", client.interrupt, node=SAMPLER, value=2)

    def watch(run, kind, data):
        if kind == "progress":
            seen.append(data["value"])
        cancel(run, kind, data)

    graph = graphs.film(duration=6.0, seed=5)
    graph[SAMPLER]["inputs"]["on_cancel"] = "discard"
    run = client.run(graph, on_event=watch)
    assert run.status == "execution_interrupted"
    assert max(seen) <= next(value for value in seen if value >= 2) + 1  # newer versions leave values out
    assert set((server.base / "temp").iterdir()) == before


BAD_TIMELINES = {
    "empty": ("", "line 1"),
    "segment without text": ("0s A red ball\n2s", "line 2"),
    "times backwards": ("0s A red ball\n3s A blue ball\n1s A star", "line 3"),
    "past the end": ("0s A red ball\n30s A blue ball", "past the end"),
    "unknown option": ("0s A red ball {loop}", "line 1"),
}


@pytest.mark.parametrize("text, message", BAD_TIMELINES.values(), ids=BAD_TIMELINES)
def test_bad_timeline_is_refused_before_anything_runs(client, text, message):
    """Forbids a timeline that fails after minutes of loading, or without saying where."""
    with pytest.raises(Rejected) as refusal:
        client.run(graphs.film(text=text, duration=5.0))
    assert message in " ".join(refusal.value.messages[TIMELINE])


def test_a_first_prompt_that_changes_nothing_is_refused(client):
    """Forbids a seam where there is none, found out when the model is loaded: only with a take before it has the first
    prompt something to change from."""
    with pytest.raises(Rejected) as refusal:
        client.run(graphs.film(text="0s A red ball {cut}"))
    (error,) = refusal.value.answer["node_errors"][TIMELINE]["errors"]
    assert error["details"].startswith("text - line 1, column 1: the first segment has nothing before it")


def test_bad_linked_timeline_says_where(client):
    """Forbids a timeline from another node that fails without line and column, or not before it runs."""
    graph = graphs.film()
    graph["9"] = {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "0s A red ball\n2s"}}
    graph[TIMELINE]["inputs"]["text"] = ["9", 0]
    with pytest.raises(Rejected) as refusal:
        client.run(graph)
    assert "line 2" in " ".join(refusal.value.messages[TIMELINE])


BAD_SETTINGS = {
    "size": ({"width": 100, "height": 80}, "100 x 80"),
    "window too small": ({"window": 4, "sink": 3}, "window 4, sink 3, chunk 3"),
    "sink no multiple": ({"sink": 2}, "sink 2"),
    "sink without window": ({"window": -1, "sink": 3}, "sink must be 0"),
}


@pytest.mark.parametrize("inputs, message", BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_impossible_settings_are_refused_with_their_numbers(client, inputs, message):
    """Forbids settings that fail deep inside PyTorch."""
    with pytest.raises(Rejected) as refusal:
        client.run(graphs.film(**inputs))
    assert message in " ".join(refusal.value.messages[SAMPLER])


def test_model_without_its_parts_is_refused(client):
    """Forbids a real model that silently gets the pocket model's text encoder and VAE."""
    with pytest.raises(Rejected) as refusal:
        client.run(graphs.film() | {"1": _load(TRUNCATED, text_encoder="from the model", vae="from the model")})
    message = " ".join(refusal.value.messages["1"])
    assert "umt5_xxl_fp16.safetensors" in message
    assert "wan_2.1_vae.safetensors" in message


def test_missing_file_is_refused(client):
    """Forbids a workflow from another machine that fails deep in a loader."""
    with pytest.raises(Rejected) as refusal:
        client.run(graphs.film() | {"1": _load("elsewhere.safetensors")})
    assert "no elsewhere.safetensors in models/diffusion_models" in " ".join(refusal.value.messages["1"])


BAD_FILES = {"truncated": TRUNCATED, "another kind": VAE_FILE, "with code": PICKLED}


@pytest.mark.parametrize("file", BAD_FILES.values(), ids=BAD_FILES)
def test_bad_model_file_is_named(client, server, file):
    """Forbids tracebacks for a broken download, a VAE in the wrong place, and pickles that run code."""
    run = client.run(graphs.film() | {"1": _load(file)})
    assert run.status == "execution_error"
    assert file in run.error
    assert not (server.base / "code-was-run").exists()


def test_wrong_text_encoder_is_named(client):
    """Forbids a text encoder that ComfyUI would treat as another model and fill with noise."""
    run = client.run(graphs.film(text_encoder=TEXT_ENCODER_FILE))
    assert run.status == "execution_error"
    assert TEXT_ENCODER_FILE in run.error


def _load(model: str, text_encoder: str = TEXT_ENCODER_FILE, vae: str = VAE_FILE) -> dict:
    inputs = {"model": model, "lora": "none", "text_encoder": text_encoder, "vae": vae, "dtype": "auto"}
    return {"class_type": "LongLiveLoad", "inputs": inputs}
