"""Files of weights: which formats there are, how their names map to Wan 2.1's, and what is wrong with a wrong file."""

from .convert import convert_lora, convert_model
from .errors import CheckpointError
from .files import read_file
from .lora import load_lora, merge_lora, parse_lora
from .lora_parts import LoraLayer
from .models import build_model, check_fit, load_state_dict, load_vae, vae_tensors
from .names import unsuitable

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
