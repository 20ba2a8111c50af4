"""Names of weights: the same wherever the same numbers enter the computation, and those of earlier versions."""

import pytest
import torch
from torch import Tensor, nn

from longlive_core.quant import place, quantise_state_dict
from longlive_core.run.identity import Sample, identity, text_identity, weights_identity

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
# Written down from the version before, which named the state dictionary as it was.
NAMES = {FP32: "fb343fc92f25370e11a9285c427ad846", BF16: "220183c92a0531082f57568df9a0a16a"}
INT8_NAME = "72cfaa0abd11ffc84a350f9a7cb0a5ff"
TEXT_NAMES = {FP32: "fc515bf3052d7d84669f935bdb225735", FP16: "c5fb7ea3c0dc886d1b8a44d472c2b47e"}


def numbers(*shape: int) -> Tensor:
    """The same everywhere: no random numbers, no rounding but the last."""
    count = torch.Size(shape).numel()
    return ((torch.arange(count) * 7919 % 1009).float() / 1009 - 0.5).reshape(shape)


def weights() -> dict[str, Tensor]:
    return {
        "blocks.0.ffn.0.weight": numbers(24, 16),
        "blocks.0.modulation": numbers(1, 6, 16),
        "head.head.bias": numbers(5),
    }


def text(dtype: torch.dtype) -> dict[str, Tensor]:
    return {"shared.weight": numbers(40, 8).to(dtype), "encoder.final_layer_norm.weight": numbers(8).to(dtype)}


@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_names_are_those_of_earlier_versions(dtype):
    """Forbids a change that loses every film made so far."""
    assert weights_identity(place(weights(), dtype=dtype), dtype) == NAMES[dtype]
    assert weights_identity(place(quantise_state_dict(weights()), dtype=BF16), BF16) == INT8_NAME


@pytest.mark.parametrize("dtype", [FP32, FP16])
def test_text_encoders_are_named_as_by_earlier_versions(dtype):
    """Forbids a change that loses every film made so far; float16 files were kept in bfloat16."""
    loaded = {name: tensor.to(BF16 if dtype is FP16 else dtype) for name, tensor in text(dtype).items()}
    twice = {**loaded, "encoder.embed_tokens.weight": loaded["shared.weight"]}
    assert text_identity(twice) == TEXT_NAMES[dtype]
    assert text_identity(loaded) == TEXT_NAMES[dtype], "listed once, as ComfyUI does"
    assert text_identity(text(dtype)) == TEXT_NAMES[dtype], "as in the file, as ComfyUI keeps it"


def test_what_a_host_keeps_weights_in_is_not_seen():
    """Forbids two names for one film: of a file's dtype, of one layer in float32, of a cast at the first load."""
    held = weights()
    for name in (None, *held):
        mixed = {each: tensor if each == name else tensor.to(BF16) for each, tensor in held.items()}
        assert weights_identity(mixed, BF16) == NAMES[BF16], name
    assert weights_identity(held, BF16) == NAMES[BF16]
    module = nn.ParameterDict({name.replace(".", "_"): value for name, value in held.items()})
    assert weights_identity(module, BF16) == weights_identity(module.to(BF16), BF16)


def test_what_changes_a_film_is_seen():
    """Forbids one name for films that differ: of weights rounded before, of other numbers, shapes, names, scales."""
    rounded = {name: tensor.to(BF16) for name, tensor in weights().items()}
    assert weights_identity(rounded, FP32) != NAMES[FP32]
    int8 = place(quantise_state_dict(weights()), dtype=BF16)
    scale = "blocks.0.ffn.0.weight_scale"
    for change in (
        {scale: int8[scale] * (1 + 2**-20)},
        {"blocks.0.ffn.0.weight": -int8["blocks.0.ffn.0.weight"]},
        {"head.head.bias": int8["head.head.bias"] + 1},
        {"head.head.bias": numbers(1, 5)},
        {"more": numbers(1)},
        {"meaning": "said in words"},
    ):
        assert weights_identity({**int8, **change}, BF16) != INT8_NAME, change
    assert text_identity(text(torch.float8_e4m3fn)) not in TEXT_NAMES.values()


def test_a_tensor_without_content_has_no_name():
    """Forbids a name that any weights would have."""
    with pytest.raises(ValueError, match="no content"):
        weights_identity({**weights(), "blocks.0.modulation": torch.empty(1, 6, 16, device="meta")}, FP32)


def test_a_sample_stands_for_its_tensor():
    """Forbids another name for what was read before."""
    for tensor in (numbers(300, 7), numbers(1).reshape(()), numbers(3).to(BF16), torch.arange(9), numbers(6, 4).T):
        assert identity([Sample.of(tensor)]) == identity([tensor])
