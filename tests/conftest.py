"""Small random models for tests, and files of them; and how tests share several processes."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from longlive_core.config import ModelConfig
from longlive_core.model import CausalWan, WanModel
from longlive_core.takes import TakeStore
from longlive_core.vae import StreamingDecoder, WanVAE

TINY = ModelConfig(dim=48, ffn_dim=64, num_heads=2, num_layers=2, text_dim=20, freq_dim=16)
SMALL = ModelConfig(dim=128, ffn_dim=32, num_heads=1, num_layers=1)  # heads of 128, as files imply
LATENT_SIZE = (4, 6)

MOST_PROCESSES = 4  # each holds PyTorch, and some a model
TOGETHER = ("comfy", "gpu_ways")  # folders whose tests share a server, or processes of their own


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, which need not be there
def pytest_xdist_auto_num_workers(config) -> int:
    return min(MOST_PROCESSES, cores())


def pytest_sessionstart(session) -> None:
    """Give each of several processes its share of the cores: more threads than cores wait for one another."""
    processes = getattr(session.config.option, "numprocesses", None) or 1
    if processes > 1:  # they inherit it, and so do the servers and commands that they start
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // processes)))


def pytest_collection_modifyitems(config, items) -> None:
    """A file's tests stay in one process, for what their fixtures make; so do those of the folders in TOGETHER."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    here = Path(__file__).parent
    for item in items:
        place = item.path.relative_to(here)
        group = place.parts[0] if place.parts[0] in TOGETHER else str(place)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """No test reads or writes the user's cache; servers and other processes that tests start inherit this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGLIVE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_model():
    """A random transformer whose output depends visibly on everything it is given."""
    torch.manual_seed(0)
    module = WanModel(TINY).requires_grad_(False)
    for parameter in module.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=1.2 / parameter[0].numel() ** 0.5)
    return CausalWan(module)


@pytest.fixture(scope="session")
def contexts():
    """Three prompts' embeddings, [1, 5, 20] each."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, 5, TINY.text_dim, generator=generator) * 2 for _ in range(3)]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Tiny random files in the places of the real ones, a tokenizer beside the text encoder."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import UMT5Config, UMT5EncoderModel

    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    save_file(WanModel(SMALL).state_dict(), folder / "dit.safetensors")
    save_file(WanVAE(dim=4).state_dict(), folder / "vae.safetensors")
    tokenizer = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, "ball": 3}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    sizes = {"vocab_size": 4, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    encoder = UMT5EncoderModel(UMT5Config(**sizes, feed_forward_proj="gated-gelu"))
    weights = {n: t.clone() for n, t in encoder.state_dict().items() if n != "encoder.embed_tokens.weight"}
    save_file(weights, folder / "text.safetensors", {"config": json.dumps(sizes), "text_len": "6"})
    return folder


@pytest.fixture
def files(folder):
    return {
        "model": folder / "dit.safetensors",
        "text_encoder": folder / "text.safetensors",
        "vae": folder / "vae.safetensors",
    }


@pytest.fixture(scope="session")
def tiny_decoder():
    torch.manual_seed(2)
    return StreamingDecoder(WanVAE(dim=4))


@pytest.fixture
def studio(tiny_model, contexts, tiny_decoder, tmp_path):
    from .studio import Studio

    return Studio(tiny_model, dict(zip("abc", contexts, strict=True)), tiny_decoder, TakeStore(tmp_path / "store"))
