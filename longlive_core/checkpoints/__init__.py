"""Files of weights: which formats there are, how their names map to Wan 2.1's, and what is wrong with a wrong file."""

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
