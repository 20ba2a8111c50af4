"""The node Quantize INT8: a MODEL whose blocks need half the memory."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..longlive_core.quant import block_linear_bytes, int8_layers
from ..longlive_core.words.wording import count
from . import compat
from .search_words import WORDS


class LongLiveQuantizeINT8(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.schema(
            node_id="LongLiveQuantizeINT8",
            display_name="Quantize INT8",
            category="LongLive",
            description="Quantizes the linear layers of the model's blocks to 8 bits, weights and activations: half "
            "the memory of bf16. The film changes slightly.",
            search_aliases=WORDS["LongLiveQuantizeINT8"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="A Wan 2.1 model in bf16, fp16 or fp32, such as Load LongLive's. LoRAs applied "
                    "before are baked in, which loses least; LoRAs applied after this node work too. It stays "
                    "unchanged.",
                ),
            ],
            outputs=[io.Model.Output(display_name="MODEL")],
        )

    @classmethod
    def execute(cls, model) -> io.NodeOutput:
        compat.refuse_missing(MODEL=model)
        quantised, weights = compat.quantise_model(model)
        return io.NodeOutput(quantised, ui=ui.PreviewText(report(weights, len(model.patches))))


def report(weights: dict, patched: int) -> str:
    """Return the node's report as text. patched: number of weights with LoRAs baked in."""
    layers = set(int8_layers(weights))
    parts = [name for name in weights if name.rpartition(".")[0] in layers and name.endswith((".weight", ".bias"))]
    before = 2 * sum(weights[name].numel() for name in parts)
    after = block_linear_bytes(weights)
    text = f"{count(len(layers), 'layer')} in INT8: {after / 2**20:.1f} MB, {before / 2**20:.1f} MB in bf16"
    return f"{text}\nLoRAs baked into {count(patched, 'weight')}" if patched else text
