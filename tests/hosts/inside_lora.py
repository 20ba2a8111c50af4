"""What ComfyUI's own LoRA loader reads, in a process of its own: prints facts for test_lora_reading.py.

    python inside_lora.py PATH_OF_COMFYUI PATH_OF_THE_PACK

A MODEL with the layers of a small Wan gives its map of names; a file counts as read if every key of it was used
and every layer got a patch.
"""

import importlib.machinery
import importlib.util
import json
import logging
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

COMFYUI, PACK = sys.argv[1:]
sys.path.insert(0, str(Path(PACK) / "scripts"))
import launch_comfyui  # noqa: E402

if launch_comfyui.EXTRAS.is_dir():
    launch_comfyui.provide_torchvision()
sys.path.remove(str(Path(PACK) / "scripts"))
sys.path.insert(0, PACK)
sys.path.insert(0, COMFYUI)
sys.argv = [sys.argv[0], "--cpu"]
if importlib.util.find_spec("torchaudio") is None:  # newer hosts import it; nothing here uses it
    for module in ("torchaudio", "torchaudio.functional", "torchaudio.transforms"):
        sys.modules[module] = MagicMock(__spec__=importlib.machinery.ModuleSpec(module, None))
import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
import comfy.lora as lora_reading  # noqa: E402
import comfy.lora_convert as lora_convert  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from longlive_core.checkpoints import convert_lora, load_lora, merge_lora  # noqa: E402
from longlive_core.checkpoints.lora.keys import comfyui_reads, parse_key  # noqa: E402
from longlive_core.checkpoints.tensor_files import write_safetensors  # noqa: E402
from longlive_core.config import ModelConfig  # noqa: E402
from longlive_core.model import WanModel  # noqa: E402

SPEC = importlib.util.spec_from_file_location("lora_files", Path(PACK) / "tests" / "lora_files.py")
lora_files = importlib.util.module_from_spec(SPEC)  # beside it is a folder comfy, so no folder is put on the path
SPEC.loader.exec_module(lora_files)
NAMINGS, changes, lora_file = lora_files.NAMINGS, lora_files.changes, lora_files.lora_file

torch.set_num_threads(1)
torch.manual_seed(0)
WEIGHTS = WanModel(ModelConfig(dim=128, ffn_dim=32, num_heads=1, num_layers=2, text_dim=24, freq_dim=16)).state_dict()
FOLDER = Path(tempfile.mkdtemp())


class Wan:
    """The part of a MODEL that the map of names needs."""

    model_config = SimpleNamespace(unet_config={})

    def state_dict(self):
        return {f"diffusion_model.{name}": weight for name, weight in WEIGHTS.items()}


KEYS = lora_reading.model_lora_keys_unet(Wan(), {})


class Unread(logging.Handler):
    """Collects the keys that the loader says it did not load."""

    def __init__(self):
        super().__init__()
        self.keys = []

    def emit(self, record):
        text = record.getMessage()
        if "lora key not loaded" in text:
            self.keys.append(text.rpartition(": ")[2])


def read(tensors):
    """(patches by weight, keys that were not read)."""
    unread = Unread()
    logging.getLogger().addHandler(unread)
    patches = lora_reading.load_lora(lora_convert.convert_lora(dict(tensors)), dict(KEYS))
    logging.getLogger().removeHandler(unread)
    return patches, unread.keys


def merged(tensors):
    """The weights with a file's patches at strength 0.5, as ComfyUI computes them."""
    weights = {name: weight.clone() for name, weight in WEIGHTS.items()}
    for key, patch in read(tensors)[0].items():
        name = key.removeprefix("diffusion_model.")
        weights[name] = lora_reading.calculate_weight([(0.5, patch, 1.0, None, None)], weights[name], key)
    return weights


def closest(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in other)


MADE = changes(WEIGHTS)
facts = {"read whole": [], "read in part": [], "converted": [], "differing": []}
for naming in NAMINGS:
    tensors = lora_file(naming, MADE)
    patches, unread = read(tensors)
    if not unread:
        facts["read whole"].append(naming)
    elif patches:
        facts["read in part"].append(naming)
    source = write_safetensors(FOLDER / f"{naming}.safetensors", tensors, {})
    target = convert_lora(source, FOLDER / "converted.safetensors")
    ours = load_lora(target)
    patches, unread = read(
        {
            f"diffusion_model.{key}{ending}": value
            for key, part in ours.items()
            for ending, value in part.tensors().items()
        }
    )
    if not unread and len(patches) == len(MADE):
        facts["converted"].append(naming)

# Other kinds: what the pack claims of single entries, against what the loader does with them.
LINEAR, ANY = "blocks.0.self_attn.q", torch.rand(4, 4)
claims = []
for layer in (
    f"diffusion_model.{LINEAR}",
    "lora_unet_blocks_0_self_attn_q",
    f"base_model.model.{LINEAR}",
    LINEAR,
    "lycoris_blocks_0_self_attn_q",
    "lora_unet__blocks_0_self_attn_q",
    f"transformer.{LINEAR}",
    "transformer.blocks.0.attn1.to_q",
    f"pipe.dit.{LINEAR}",
    "lora_unet_blocks_0.self_attn.q",
    "diffusion_model.blocks.0.modulation",
    "lora_unet_blocks_0_modulation",
):
    for pair in (
        (".lora_A.weight", ".lora_B.weight"),
        (".lora_A.default.weight", ".lora_B.default.weight"),
        (".lora_A.style.weight", ".lora_B.style.weight"),
        (".lora_down.weight", ".lora_up.weight"),
        ("_lora.down.weight", "_lora.up.weight"),
        (".diff",),
        (".diff_b",),
        (".w_norm", ".b_norm"),
        (".set_weight",),
        (".lokr_w1", ".lokr_w2_a", ".lokr_w2_b", ".alpha"),
        (".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b"),
        (".dora_scale",),
        (".a1.weight", ".a2.weight", ".b1.weight", ".b2.weight"),
    ):
        names = [layer + ending for ending in pair]
        unread = set(read({name: torch.tensor(1.0) if name.endswith("alpha") else ANY for name in names})[1])
        claims += [(name, comfyui_reads(name), name not in unread) for name in names]
facts["false claims"] = [name for name, claimed, true in claims if claimed and not true]
facts["claims"] = sum(claimed for _, claimed, _ in claims)
facts["known"] = sum(parse_key(name) is not None for name, _, _ in claims)

kinds = {
    **{
        f"diffusion_model.{LINEAR}.hada_{name}": torch.randn(*shape) * 0.3
        for name, shape in {"w1_a": (128, 3), "w1_b": (3, 128), "w2_a": (128, 3), "w2_b": (3, 128)}.items()
    },
    f"diffusion_model.{LINEAR}.alpha": torch.tensor(6.0),
    "diffusion_model.blocks.0.self_attn.k.lokr_w1": torch.randn(4, 4),
    "diffusion_model.blocks.0.self_attn.k.lokr_w2_a": torch.randn(32, 2),
    "diffusion_model.blocks.0.self_attn.k.lokr_w2_b": torch.randn(2, 32),
    "diffusion_model.blocks.0.self_attn.k.alpha": torch.tensor(1.0),
    "diffusion_model.blocks.0.norm3.diff": torch.randn(128),
    "diffusion_model.blocks.0.norm3.diff_b": torch.randn(128),
    "diffusion_model.blocks.1.modulation.diff": torch.randn(1, 6, 128),
    "diffusion_model.patch_embedding.lora_down.weight": torch.randn(2, 16, 1, 2, 2),
    "diffusion_model.patch_embedding.lora_up.weight": torch.randn(128, 2, 1, 1, 1),
}
files = {"kinds": kinds, **{naming: lora_file(naming, MADE) for naming in ("kohya", "diffusion_pipe")}}
for name, tensors in files.items():
    source = write_safetensors(FOLDER / "file.safetensors", tensors, {})
    ours = merge_lora(WEIGHTS, load_lora(source), 0.5)
    if closest(merged(tensors), ours) > 1e-4:
        facts["differing"].append(name)
    target = convert_lora(source, FOLDER / "converted.safetensors")
    if closest(merged(load_file(target)), ours) > 1e-4:
        facts["differing"].append(f"{name}, converted")
print(json.dumps(facts))
