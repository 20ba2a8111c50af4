"""The cases of the matrix."""

from __future__ import annotations

from dataclasses import dataclass

CHUNKS, PROMPTS = 5, 2  # of every film
FLOATS, PACKED = ("fp32", "bf16", "fp16"), ("fp8", "fp8_layers", "gguf", "int8")
FLOAT_WAYS = ("plain", "partial", "dynamic", "dynamic_lora", "lora_quantize", "quantize_lora", "compiled")
PACKED_WAYS = ("plain", "partial", "lora", "lora_partial", "compiled")


@dataclass(frozen=True)
class Case:
    """native: see `host.NATIVE`. form: see `weights.write`. way: what happens to the MODEL, see `Studio.model`."""

    native: str
    form: str
    way: str = "plain"

    @property
    def id(self) -> str:
        return f"{self.native}-{self.form}-{self.way}"

    @classmethod
    def named(cls, id: str) -> Case:
        return cls(*id.split("-"))


def usual() -> list[Case]:
    """A part of the matrix in which every form and every way of every native dtype is there, and every packed form has
    gone every way: pairs that differ in nothing but the other's value are left to LONGLIVE_GPU_WAYS=all."""
    chosen = []
    for case in matrix():
        if case.native == "both":
            chosen += [case] if case.form == "fp32" else []
        elif case.way == "plain" or case.form == "gguf_pack":
            chosen.append(case)
        elif case.form in FLOATS:
            turn = FLOAT_WAYS.index(case.way) + (case.native == "fp16")
            chosen += [case] if FLOATS[turn % len(FLOATS)] == case.form else []
        elif case.form in PACKED:
            turn = (PACKED.index(case.form) + PACKED_WAYS.index(case.way)) if case.way in PACKED_WAYS else 0
            chosen += [case] if ("bf16", "fp16")[turn % 2] == case.native else []
    return chosen


def matrix() -> list[Case]:
    ways = [(form, way) for form in FLOATS for way in FLOAT_WAYS]
    ways += [(form, way) for form in PACKED for way in PACKED_WAYS] + [("fp8", "dynamic")]
    cases = [Case(native, form, way) for native in ("bf16", "fp16") for form, way in ways]
    cases += [Case(native, "loud", way) for native in ("bf16", "fp16") for way in ("plain", "partial")]
    cases += [Case(native, "gguf_pack", way) for native in ("bf16", "fp16") for way in ("plain", "partial")]
    return [*cases, *(Case("both", form, "plain") for form in FLOATS)]
