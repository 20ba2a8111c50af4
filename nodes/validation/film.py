"""What is wrong with a Prompt Timeline or a Stream Sampler, told from the whole prompt that is being queued.

A timeline may be right by itself and wrong for a sampler: what its first prompt may say depends on whether a take lies
before it, and how long it may be on the sampler's settings. What is not known before something runs is looked at by the
nodes again when it is.
"""

from __future__ import annotations

import os
from typing import Any

import folder_paths

from ...longlive_core.checkpoints.built_in import is_pocket_file
from ...longlive_core.config import PRESETS, StreamConfig
from ...longlive_core.sizes import check_choice
from ...longlive_core.timeline import Script, check_first, parse
from ..inputs import AUTO, ENDLESS, requested_seconds, sampler_inputs, timeline_inputs
from ..load import POCKET
from .graph import UNKNOWN, QueuedGraph
from .queued import known_values, widgets_fault

TIMELINE, SAMPLER = "LongLivePromptTimeline", "LongLiveStreamSampler"
BEGINNINGS = ("start_image", "start_latent", "take")
MODEL_FILES = {"LongLiveLoad": "model", "UNETLoader": "unet_name"}  # loaders, by the input that names the file
LARGE = 1e9  # bytes: no file of a model below Wan's 1.3B, in whatever numbers, is as large


def timeline_fault(graph: QueuedGraph, node: str) -> str | None:
    """What is wrong with a Prompt Timeline, for itself or for a sampler that takes it; None where nothing is known."""
    wrong, all_right = widgets_fault(graph, node, timeline_inputs(), taken="text")
    if not all_right:
        return wrong
    values = known_values(graph, node, timeline_inputs())
    if values["text"] is UNKNOWN:
        return None
    samplers = graph.takers(node, SAMPLER, "timeline")
    try:
        script = parse(values["text"], continues=True)
        if UNKNOWN not in values.values():
            _check_plans(graph, script, values, samplers)
    except ValueError as error:
        return str(error)
    return next(filter(None, (_first_fault(graph, script, sampler) for sampler in samplers)), None)


def sampler_fault(graph: QueuedGraph, node: str) -> str | None:
    """What is wrong with a Stream Sampler, but for its timeline; None where nothing is known."""
    wrong, all_right = widgets_fault(graph, node, sampler_inputs())
    if not all_right:
        return wrong
    values = known_values(graph, node, sampler_inputs())
    try:
        if UNKNOWN not in (size := (values["size"], values["width"], values["height"])):
            check_choice(*size)
        check_beginning([name for name in BEGINNINGS if graph.link(node, name) is not None])
        preset = _preset(graph, node)
        stream = _stream(values, preset)
        if stream is not None:
            _check_length(graph, node, stream, endless_only=values["positions"] == AUTO and preset is None)
    except ValueError as error:
        return str(error)
    return None


def check_beginning(connected: list[str]) -> None:
    """Raise ValueError where a film would begin with more than one of BEGINNINGS."""
    if len(connected) > 1:
        raise ValueError(f"a film begins with one thing, but {' and '.join(connected)} are connected: keep one of them")


def _check_plans(graph: QueuedGraph, script: Script, values: dict[str, Any], samplers: list[str]) -> None:
    """Raise ValueError where the timeline cannot be planned in the chunks of a sampler that takes it."""
    chunks = {known_values(graph, sampler, sampler_inputs())["chunk"]: sampler for sampler in reversed(samplers)}
    for chunk, sampler in (chunks or {3: None}).items():
        if chunk is UNKNOWN:
            continue
        try:
            script.plan(requested_seconds(values["duration"]), values["fps"], chunk)
        except ValueError as error:
            where = "" if chunk == 3 else f" (chunk {chunk} of {graph.title(sampler)})"
            raise ValueError(f"{error}{where}") from error


def _first_fault(graph: QueuedGraph, script: Script, sampler: str) -> str | None:
    """What the first prompt must not say in a film that goes on after nothing."""
    if graph.link(sampler, "take") is not None:
        return None
    try:
        check_first(script.segments[0])
    except ValueError as error:
        return f"{error}, or connect a take to {graph.title(sampler)}"
    return None


def _stream(values: dict[str, Any], preset: str | None) -> StreamConfig | None:
    """The sampler's settings, as far as they are known; None where those that depend on one another are not."""
    settings = {name: values[name] for name in ("window", "sink", "chunk", "shift", "sink_policy")}
    own = PRESETS[preset or "pocket"].positions  # with a MODEL that nobody knows yet it does not matter here
    settings["positions"] = own if values["positions"] == AUTO else values["positions"]
    return None if UNKNOWN in settings.values() else StreamConfig(**settings)


def _check_length(graph: QueuedGraph, node: str, stream: StreamConfig, endless_only: bool) -> None:
    """Raise ValueError where the timeline is longer than the settings allow. What is wrong with it is said there.

    endless_only: the positions are not known.
    """
    timeline, _ = graph.link(node, "timeline") or (None, 0)
    if timeline is None or graph.kind(timeline) != TIMELINE:
        return
    values = known_values(graph, timeline, timeline_inputs())
    if values["duration"] == ENDLESS:
        stream.check_endless()
    if endless_only or UNKNOWN in values.values():
        return
    try:
        plan = parse(values["text"], continues=True).plan(
            requested_seconds(values["duration"]), values["fps"], stream.chunk
        )
    except ValueError:
        return
    stream.check_length(plan.longest_shot)


def _preset(graph: QueuedGraph, node: str) -> str | None:
    """What the MODEL of a sampler was made for, as far as its file tells; see `compat.preset_of`.

    What lies between loader and sampler, such as LoRA loaders, takes the MODEL as `model`.
    """
    seen: set[str] = set()
    while (link := graph.link(node, "model")) is not None and link[0] not in seen:
        node = link[0]
        seen.add(node)
        if (name := MODEL_FILES.get(graph.kind(node))) is not None:
            return _preset_of_file(graph.value(node, name))
    return None


def _preset_of_file(name: Any) -> str | None:
    if not isinstance(name, str):
        return None
    path = None if name == POCKET else folder_paths.get_full_path("diffusion_models", name)
    if name == POCKET or is_pocket_file(path):
        return "pocket"
    return "longlive-1.3b" if path is not None and os.path.getsize(path) > LARGE else None
