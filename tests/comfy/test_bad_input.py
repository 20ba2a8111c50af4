"""Wrong files, models of others, too little memory, NaN, old workflows: the message each gives, and that the server
still renders after each of them."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from longlive_core.checkpoints.built_in import DIT_FILE, TEXT_ENCODER_FILE, VAE_FILE, weights_folder
from scripts.harness import graphs
from scripts.harness.client import Rejected
from scripts.harness.graphs import LOAD, SAMPLER, TIMELINE
from tests import wrong_files

from .test_trouble import first_chunk, still_renders  # noqa: F401 - they run around every test here too

pytestmark = pytest.mark.comfy

BROKEN, VACE, CLIP = "broken.safetensors", "pocket_vace.safetensors", "sd_clip.safetensors"
WIDTH = load_file(weights_folder() / DIT_FILE)["blocks.0.self_attn.q.weight"].shape[0]
LORAS = wrong_files.loras(WIDTH)


@pytest.fixture(scope="module", autouse=True)
def wrong(server):
    """The wrong files, in the server's folders."""
    folders = {
        "diffusion_models": wrong_files.MODELS,
        "vae": wrong_files.VAES,
        "loras": LORAS,
        "text_encoders": wrong_files.TEXT_ENCODERS,
    }
    for folder, files in folders.items():
        for name, (tensors, _) in files.items():
            save_file(tensors, server.base / "models" / folder / name)
    weights = load_file(weights_folder() / DIT_FILE)
    vace = {
        "vace_patch_embedding.weight": torch.zeros(WIDTH, 96, 1, 2, 2),
        "vace_blocks.0.before_proj.weight": torch.zeros(WIDTH, WIDTH),
    }
    save_file({**weights, **vace}, server.base / "models" / "diffusion_models" / VACE)
    clip = {"text_model.encoder.layers.0.mlp.fc1.weight": torch.zeros(3072, 768)}  # enough for ComfyUI's loader
    save_file(clip, server.base / "models" / "text_encoders" / CLIP)
    weights["blocks.1.ffn.2.weight"][0, 0] = float("nan")
    save_file(weights, server.base / "models" / "diffusion_models" / BROKEN)


def load(**inputs) -> dict:
    """Load LongLive with one wrong file: the built-in model, unless model or text encoder is the wrong one."""
    own = {"model": "pocket (built-in)", "lora": "none", "text_encoder": "from the model", "vae": "from the model"}
    files = {"model": DIT_FILE, "lora": "none", "text_encoder": TEXT_ENCODER_FILE, "vae": VAE_FILE}
    chosen = files if inputs.keys() & {"model", "text_encoder"} else own
    return {LOAD: {"class_type": "LongLiveLoad", "inputs": {**chosen, "dtype": "auto", **inputs}}}


def failure(client, graph) -> str:
    """The message of a run that fails."""
    run = client.run(graph)
    assert run.status == "execution_error"
    assert "Traceback" not in run.error
    return run.error


def refusal(client, graph) -> dict:
    """The server's answer to a graph that it refuses."""
    with pytest.raises(Rejected) as refused:
        client.run(graph)
    return refused.value.answer["node_errors"]


FILES = {
    **{name: ({"model": name}, words) for name, (_, words) in wrong_files.MODELS.items()},
    **{name: ({"vae": name}, words) for name, (_, words) in wrong_files.VAES.items()},
    **{name: ({"lora": name}, words) for name, (_, words) in LORAS.items()},
    **{name: ({"text_encoder": name}, words) for name, (_, words) in wrong_files.TEXT_ENCODERS.items()},
}


@pytest.mark.parametrize("name", FILES)
def test_wrong_file_is_named(client, name):
    """Forbids tracebacks, shape errors and films of noise from a file of another model in Load LongLive."""
    inputs, words = FILES[name]
    error = failure(client, graphs.film() | load(**inputs))
    assert words in error
    assert name in error


def test_model_of_comfyuis_loader_that_is_no_longlive(client):
    """Forbids a VACE model, whose module has all of Wan's names, in the sampler."""
    graph = graphs.film()
    graph["8"] = {"class_type": "UNETLoader", "inputs": {"unet_name": VACE, "weight_dtype": "default"}}
    graph[SAMPLER]["inputs"]["model"] = ["8", 0]
    assert "the MODEL is Wan VACE, which LongLive does not run on" in failure(client, graph)


def test_vae_of_another_model_in_the_sampler(client):
    """Forbids a VAE of ComfyUI's loader whose latents are not Wan's."""
    graph = graphs.film()
    graph["8"] = {"class_type": "VAELoader", "inputs": {"vae_name": "pixel_space"}}
    graph[SAMPLER]["inputs"]["vae"] = ["8", 0]
    assert "the VAE is not Wan 2.1's; connect the VAE of Load LongLive" in failure(client, graph)


def test_clip_of_another_model_in_the_timeline(client):
    """Forbids embeddings of CLIP where the model reads UMT5's."""
    graph = graphs.film()
    graph["8"] = {"class_type": "CLIPLoader", "inputs": {"clip_name": CLIP, "type": "stable_diffusion"}}
    graph[TIMELINE]["inputs"]["clip"] = ["8", 0]
    error = failure(client, graph)
    assert "the CLIP is the text encoder of another model (its tokens are for l, not umt5xxl)" in error
    assert "CLIPLoader of type wan" in error


def test_nan_names_chunk_and_layer(client, server):
    """Forbids a black film, and half of one in the temporary folder."""
    before = set((server.base / "temp").iterdir())
    graph = graphs.film()
    graph["8"] = {"class_type": "UNETLoader", "inputs": {"unet_name": BROKEN, "weight_dtype": "default"}}
    graph[SAMPLER]["inputs"]["model"] = ["8", 0]
    error = failure(client, graph)
    assert "chunk 0: the model's output holds NaN or infinity; step 0, layer blocks.1.ffn.2" in error
    assert "its weights hold NaN or infinity; the file is damaged or a merged LoRA broke it" in error
    assert set((server.base / "temp").iterdir()) == before


def test_a_run_that_cannot_fit_is_refused_with_both_numbers(client):
    """Forbids an allocator's error, or a server that swaps, for a cache of terabytes."""
    graph = graphs.film(width=2048, height=2048, window=-1, sink=0, positions="relative", duration=8000.0)
    error = failure(client, graph)
    assert "the run needs at least" in error
    assert "GB) on cpu, which has" in error
    assert "Lower the window (it is -1" in error


def test_a_temporary_folder_that_cannot_be_written(client, server):
    """Forbids loading models first and failing at the first chunk then. (Rights do not bind an administrator: a file
    stands where the folder was.)"""
    temp, away = server.base / "temp", server.base / "temp-away"
    temp.rename(away)
    temp.write_bytes(b"")
    try:
        error = failure(client, graphs.film(seed=7))
    finally:
        temp.unlink()
        away.rename(temp)
    assert f"temporary folder {temp} cannot be made (File exists); choose another with --temp-directory" in error


def test_unknown_timeline_option(client):
    """Forbids an option that is ignored."""
    errors = json.dumps(refusal(client, graphs.film(text="0s A red ball {foo=1}"))[TIMELINE])
    assert "unknown option {foo=1}; options at the end of a prompt are" in errors
    assert "line 1" in errors


# --- workflows saved by another version


def without(name: str) -> dict:
    graph = graphs.film(filename_prefix="old")
    for node in graph.values():
        node["inputs"].pop(name, None)
    return graph


@pytest.mark.parametrize("name, node", [("seed", SAMPLER), ("dtype", LOAD), ("fps", TIMELINE)])
def test_missing_input_is_named(client, name, node):
    """Forbids an error deep in a node for a workflow from before an input existed."""
    (error,) = refusal(client, without(name))[node]["errors"]
    assert error["message"] == "Required input is missing"
    assert error["details"] == name


@pytest.mark.parametrize(
    "inputs, node, words",
    [
        ({"positions": "rope"}, SAMPLER, "rope"),
        ({"dtype": "int4"}, LOAD, "int4"),
        ({"sink_policy": "frozen"}, SAMPLER, "frozen"),
        ({"chunk": 2}, SAMPLER, "chunk"),
        ({"lora": "gone.safetensors"}, LOAD, "gone.safetensors"),
        ({"steps": "many"}, SAMPLER, "steps, many"),
    ],
    ids=["positions", "dtype", "sink policy", "chunk", "lora", "steps"],
)
def test_value_that_no_longer_exists_is_named(client, inputs, node, words):
    """Forbids a choice of another version that is silently replaced."""
    (error,) = refusal(client, graphs.film(**inputs))[node]["errors"]
    assert words in error["details"]  # newer versions say it themselves


def test_widget_that_no_longer_exists_is_no_harm(client):
    """Forbids that a workflow stops running because a widget was taken away."""
    graph = graphs.film(filename_prefix="old_widget", seed=11)
    graph[SAMPLER]["inputs"]["cfg"] = 6.0
    assert client.run(graph).status == "execution_success"


def test_link_that_no_longer_exists_is_named(client):
    """Forbids an error without the input's name for a connection that the node no longer takes."""
    graph = graphs.film(seed=12)
    graph[SAMPLER]["inputs"]["negative"] = [LOAD, 1]
    (error,) = refusal(client, graph)[SAMPLER]["errors"]
    assert "this version of the node has no input negative" in error["details"]


def test_node_that_no_longer_exists_is_named(client):
    """Forbids a workflow that stops silently."""
    graph = graphs.film()
    graph["9"] = {"class_type": "LongLiveGone", "inputs": {}}
    with pytest.raises(Rejected) as refused:
        client.run(graph)
    assert "LongLiveGone" in json.dumps(refused.value.answer)
