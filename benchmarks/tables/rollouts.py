"""Tables of inference settings: switch strategies, window and sink, INT8."""

from __future__ import annotations

import copy
import time
from dataclasses import replace

import torch

from longlive_core.config import StreamConfig
from longlive_core.model import CausalWan
from longlive_core.pocket.sampling import LATENT_SIZE
from longlive_core.quant import block_linear_bytes, quantise_module
from longlive_core.run.pipeline import Pipeline

from .common import Story, Table, one_change, render, score, single_prompts

CHANGE, CHUNKS = 6, 14  # 10.3 s, the prompt changes after 4.3 s
WINDOW_CHUNKS = 27  # 20.1 s
CONSISTENCY = {
    "adherence": lambda s: s.adherence,
    "subject consistency": lambda s: s.subject_consistency,
    "background consistency": lambda s: s.background_consistency,
}


def switch_strategies(pipeline: Pipeline, count: int, seed: int) -> Table:
    """Measure the paper's Table 4: one prompt switch by cut ("no KV cache"), keep ("KV cache") and recache."""
    table = Table(
        "Switch strategies (Table 4)",
        f"{count} films of 10 s; after 4.3 s the action changes, subject and setting stay. Adherence: windows of 3 s "
        "from 1.5 s after the switch on. Consistency: over the whole film. Goes on (smooth): at the switch the subject "
        "makes no step above 8 pixels and is never gone for more than 8 frames.",
        "background / subject consistency / CLIP: no KV cache 92.75 / 89.59 / 28.95, KV cache 94.77 / 93.69 / 25.92, "
        "KV recache 94.81 / 94.04 / 27.87 (interactive videos of 60 s)",
    )
    stories = one_change(count, seed, CHANGE)
    for transition in ("cut", "keep", "recache"):
        scores = score(stories, render(pipeline, stories, CHUNKS, transition))
        table.add(
            transition,
            scores,
            {
                "adherence": lambda s: s.segments[1].adherence,
                "subject consistency": lambda s: s.film_subject_consistency,
                "background consistency": lambda s: s.film_background_consistency,
                "goes on": lambda s: float(s.switches[0].smooth),
            },
        )
    for measure in ("adherence", "subject consistency", "goes on"):
        table.remarks += [table.difference(measure, other, "recache") for other in ("cut", "keep")]
    return table


def windows(pipeline: Pipeline, count: int, seed: int) -> Table:
    """Measure the paper's Figure 7: windows without a sink, and a window of 9 with 3 frames of sink."""
    table = Table(
        "Windows and sink (Figure 7)",
        f"{count} films of 20 s of one prompt. Rows: latent frames of the window, including the sink.",
        "consistency rises with the window from 3 to 24 and flattens at 21; 9 + 3 sink frames are as good as 21, at "
        "the cost of 12",
    )
    stories = single_prompts(count, seed)
    settings: dict[str, StreamConfig] = {
        str(size): replace(pipeline.stream, window=size, sink=0) for size in range(3, 25, 3)
    }
    settings["9 + 3 sink"] = replace(pipeline.stream, window=12, sink=3)
    for name, stream in settings.items():
        started = time.monotonic()
        rendered = list(render(pipeline, stories, WINDOW_CHUNKS, stream=stream))
        spent = time.monotonic() - started
        table.add(name, score(stories, iter(rendered)), CONSISTENCY)
        table.remarks.append(
            f"window {name}: {stream.window * pipeline_tokens(pipeline)} keys per layer, "
            f"{len(rendered) * len(rendered[0]) / spent:.0f} frames/s with decoding"
        )
    for measure in CONSISTENCY:
        table.remarks.append(table.difference(measure, "21", "9 + 3 sink"))
        table.remarks.append(table.difference(measure, "12", "9 + 3 sink"))
    return table


def pipeline_tokens(pipeline: Pipeline) -> int:
    """Return the tokens per latent frame."""
    return pipeline.model.config.tokens_per_frame(LATENT_SIZE)


NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


def int8(pipeline: Pipeline, count: int, seed: int) -> Table:
    """Measure the paper's comparison of INT8 and bf16 (Appendix G): size, speed, scores."""
    table = Table(
        "INT8 against bf16 (Appendix G)",
        f"{count} films of 10 s of one prompt each.",
        "size 2.7 -> 1.4 GB, 12.6 -> 16.4 FPS, VBench total 84.87 -> 84.31",
    )
    stories: list[Story] = single_prompts(count, seed)
    module = pipeline.model.module
    plain = NAMES[pipeline.model.dtype]  # bf16, except on CPUs that only emulate it
    models = {plain: module, "INT8": quantise_module(copy.deepcopy(module))}
    for name, one in models.items():
        pipeline.model = CausalWan(one, pipeline.model.config)
        started = time.monotonic()
        rendered = list(render(pipeline, stories, CHUNKS))
        spent = time.monotonic() - started
        table.add(name, score(stories, iter(rendered)), CONSISTENCY)
        speed = len(rendered) * len(rendered[0]) / spent
        table.remarks.append(f"{name}: {speed:.0f} frames/s with decoding, batches of 8")
    half = copy.deepcopy(module).to(torch.bfloat16)
    before, after = (block_linear_bytes(one.state_dict()) for one in (half, quantise_module(copy.deepcopy(half))))
    megabytes = f"{before / 1e6:.2f} -> {after / 1e6:.2f} MB"
    table.remarks.append(f"block linears {megabytes}, {before / after:.2f} times smaller")
    table.remarks += [table.difference(measure, plain, "INT8") for measure in CONSISTENCY]
    return table
