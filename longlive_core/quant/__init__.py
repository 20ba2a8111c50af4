"""INT8 linear layers (W8A8) in ComfyUI's `int8_tensorwise` layout, applied to a model from outside."""

from .int8 import dequantise, int8_linear, int_mm, quantise_rows
from .layout import block_linear_bytes, canonical, int8_layers, is_block_linear, place, quantise_state_dict
from .linear import Int8Linear, insert_int8_linears, quantise_module

__all__ = [
    "Int8Linear",
    "block_linear_bytes",
    "canonical",
    "dequantise",
    "insert_int8_linears",
    "int8_layers",
    "int8_linear",
    "int_mm",
    "is_block_linear",
    "place",
    "quantise_module",
    "quantise_rows",
    "quantise_state_dict",
]
