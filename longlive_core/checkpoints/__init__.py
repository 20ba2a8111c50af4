"""Weight files: reading every format, mapping keys to Wan 2.1's names, checking and converting.

In the order of calls: `tensor_files.py` and `shards.py` read files; `weight_sets.py` selects weights or their moving
average; `key_table.py` (the table of key names) and `wan_keys.py` map the keys; `model_kinds.py` names other kinds of
files; `models.py` builds the model or VAE; `weight_checks.py` finds damaged weights; `convert.py` writes files for
ComfyUI. `lora/` and `text_encoder/` do the same for LoRAs and UMT5.
"""

from .convert import convert_lora, convert_model
from .errors import CheckpointError
from .lora import load_lora, merge_lora, parse_lora
from .lora.parts import LoraLayer
from .model_kinds import unsuitable
from .models import build_model, check_fit, load_state_dict, load_vae, vae_tensors
from .tensor_files import read_file

__all__ = [
    "CheckpointError",
    "LoraLayer",
    "build_model",
    "check_fit",
    "convert_lora",
    "convert_model",
    "load_lora",
    "load_state_dict",
    "load_vae",
    "merge_lora",
    "parse_lora",
    "read_file",
    "unsuitable",
    "vae_tensors",
]
