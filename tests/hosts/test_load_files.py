"""Load LongLive on files that need a choice or a table: the weights that reach ComfyUI."""

import pytest
import torch
from safetensors.torch import save_file

from longlive_core.config import ModelConfig
from longlive_core.model import WanModel

from ..lora_files import NAMINGS, by_hand, changes, lora_file
from . import fakes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    model = WanModel(ModelConfig(dim=128, ffn_dim=32, num_heads=1, num_layers=2, text_dim=24))
    return {name: value.detach() for name, value in model.state_dict().items()}


@pytest.fixture
def package(tmp_path):
    with fakes.Host(fakes.NEW, tmp_path).pack() as package:
        yield package


def test_loras_of_every_trainer_reach_comfyui(package, tmp_path, weights):
    """Forbids that the node knows fewer names than the command line, or merges something else."""
    made = changes(weights)
    save_file(weights, tmp_path / "model.safetensors")
    for naming in NAMINGS:
        save_file(lora_file(naming, made), tmp_path / "lora.safetensors")
        paths = (str(tmp_path / f"{name}.safetensors") for name in ("model", "lora"))
        loaded = package.nodes.compat.load_model(*paths, "fp32").model
        for name, expected in by_hand(weights, naming, made).items():
            torch.testing.assert_close(loaded[name], expected)


def test_the_set_of_weights_can_be_chosen(package, tmp_path, weights):
    """Forbids a widget that changes nothing, and one that is lost when ComfyUI loads the model again."""
    average = {name: value + 1 for name, value in weights.items()}
    path = str(tmp_path / "model.pt")
    torch.save({"generator": weights, "generator_ema": average}, path)
    load = package.nodes.compat.load_model
    for choice, expected in (("auto", weights), ("generator", weights), ("generator_ema", average)):
        model = load(path, None, "fp32", choice)
        again = model.clone(disable_dynamic=True)
        assert all(torch.equal(loaded.model[name], expected[name]) for loaded in (model, again) for name in weights)
    save_file(weights, tmp_path / "plain.safetensors")
    with pytest.raises(ValueError, match="it holds one set of weights; leave the choice at auto"):
        load(str(tmp_path / "plain.safetensors"), None, "fp32", "generator_ema")


def test_the_choice_is_the_last_input_and_may_be_left_out(package):
    """Forbids that workflows saved before it, whose widgets are a list, shift, and that API graphs are refused."""
    node = package.nodes.load.LongLiveLoad
    inputs = [entry.given for entry in node.define_schema().given["inputs"]]
    assert [entry["id"] for entry in inputs] == ["model", "lora", "text_encoder", "vae", "dtype", "weights"]
    assert inputs[-1]["optional"] and inputs[-1]["default"] == "auto"
    with pytest.raises(ValueError, match="weights 'ema': .*auto, generator, generator_ema"):
        node.execute("pocket (built-in)", "none", "from the model", "from the model", "auto", "ema")


def test_a_shard_of_a_text_encoder_is_refused(package, tmp_path):
    """Forbids that ComfyUI's loader reads a third of an encoder: it knows no shards."""
    for number in (1, 2):
        save_file({f"x{number}": torch.zeros(1)}, tmp_path / f"model-0000{number}-of-00002.safetensors")
    with pytest.raises(ValueError, match="is one of several files; use umt5_xxl_fp16.safetensors"):
        package.nodes.compat.load_clip(str(tmp_path / "model-00001-of-00002.safetensors"), [])
