"""Films as a graphics card renders them, in a real ComfyUI: see `films.py`, `card.py` and `host.py`.

A case is: which 16 bits the card computes in natively, the form of the file, and what happens to the MODEL on its way
to the sampler. Its film, five chunks with a prompt switch, is rendered by the nodes and compared with the float32 film
of the same weights on a CPU. LONGLIVE_GPU_WAYS=all renders every film of the matrix, otherwise a part that covers it.
"""

from __future__ import annotations

import os

import pytest

from .cases import CHUNKS, PROMPTS, Case, matrix, usual

pytestmark = pytest.mark.slow

# Largest error of any chunk's latents, root mean square relative to the film. bf16 rounds to 2^-9 = 0.002 and fp16 to
# 2^-12 = 0.00024 at every one of about ten steps of a block, so a pass through two blocks is off by about three times
# that; measured are 0.0068 and 0.0008. It does not grow from chunk to chunk. What packed weights stand for counts as
# exact, so they add nothing, but for two: INT8 layers round their inputs to 1/254 of a row's largest as well (measured
# 0.012), and ComfyUI rounds a patched fp8 weight to fp8 again (measured 0.02).
BOUND = {"bf16": 0.013, "fp16": 0.0025}
INT8, PATCHED_FP8 = 0.02, 0.035
# Mean difference of pixels before they are encoded, of 255: that of the latents, times the contrast of these films, and
# what the VAE itself rounds (bf16, measured: 1.4 to 2.3; fp16: 0.2 to 1.6 with INT8).
PIXELS = {"bf16": 3.5, "fp16": 2.5}


def bound(case: Case) -> float:
    if case.form == "int8" or "quantize" in case.way:
        return INT8
    if case.form.startswith("fp8") and "lora" in case.way:
        return PATCHED_FP8
    return BOUND["fp16" if case.native == "fp16" else "bf16"]


cases = matrix() if os.environ.get("LONGLIVE_GPU_WAYS") == "all" else usual()
every_case = pytest.mark.parametrize("case", cases, ids=lambda case: case.id)


@every_case
def test_film(case, filmed):
    """Forbids, for each way, a missing film, another film, and that none of its chunks is reused.

    What a LoRA does is at least five times what is allowed here, so no film without it passes.
    """
    film = filmed(case)
    assert max(film["error"]) < bound(case), film["error"]
    assert film["pixels"] < PIXELS["fp16" if case.native == "fp16" else "bf16"]
    assert film["dtype"] == {"fp16": "torch.float16"}.get(case.native, "torch.bfloat16")
    assert film["report"]["chunks"] == film["report"]["rendered_chunks"] == CHUNKS
    assert film["rendered again"] == 0, "a second run of the same session made chunks again: the MODEL's name changed"
    if "lora" in case.way:
        assert film["lora does"] > 5 * bound(case)
    if case.way in ("partial", "lora_partial") or case.way.startswith("dynamic"):
        assert film["offloaded"], "all weights were on the card, so nothing was tried"
    if case.way == "compiled":
        assert film["graphs"], "the user's compiler was never called"


@every_case
def test_no_pass_makes_the_host_wait(case, filmed):
    """Forbids float64 on the card, and waiting for it anywhere in a pass but for the one look at a whole chunk.

    Tables may be sent to the card once per film, not once per chunk, and a prompt once when it begins.
    """
    if case.way == "compiled":
        pytest.skip("the card that is not there compiles nothing")
    events = filmed(case)["events"]
    assert [event for event in events if event[1].startswith("float64")] == []
    waits = {what: count for phase, what, count in events if phase == "Shot.next_chunk" and what.startswith("wait")}
    assert list(waits.values()) == [CHUNKS] and "shot.py" in next(iter(waits)), waits
    often = [event for event in events if event[0] in ("Shot.next_chunk", "Shot.recache") and event[2] >= CHUNKS]
    assert [event for event in often if event[1] not in waits] == []
    recache = [event for event in events if event[0] == "Shot.recache"]
    assert recache == []
    assert sum(count for phase, _, count in events if phase == "Shot.switch") <= PROMPTS
