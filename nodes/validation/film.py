"""Validate a Prompt Timeline and a Stream Sampler with the whole queued prompt.

A timeline may be valid alone and invalid for a sampler: its first prompt may begin with a transition only if a take
comes before it, and the sampler's settings limit its length. Values that are known only at run time are checked by the
nodes themselves when they run.
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
from .queued import known_values, widget_error

TIMELINE, SAMPLER = "LongLivePromptTimeline", "LongLiveStreamSampler"
BEGINNINGS = ("start_image", "start_latent", "take")
MODEL_FILES = {"LongLiveLoad": "model", "UNETLoader": "unet_name"}  # loaders: the input with the file name
LARGE = 1e9  # bytes: no file of a model smaller than Wan's 1.3B is this large, in any dtype


def timeline_error(graph: QueuedGraph, node: str) -> str | None:
    """Return the error of a Prompt Timeline, alone or with a sampler that takes it; None if none is known."""
    error, all_valid = widget_error(graph, node, timeline_inputs(), taken="text")
    if not all_valid:
        return error
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
    return next(filter(None, (_first_error(graph, script, sampler) for sampler in samplers)), None)


def sampler_error(graph: QueuedGraph, node: str) -> str | None:
    """Return the error of a Stream Sampler, without those of its timeline; None if none is known."""
    error, all_valid = widget_error(graph, node, sampler_inputs())
    if not all_valid:
        return error
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
    """Raise ValueError if a film would begin with more than one of BEGINNINGS."""
    if len(connected) > 1:
        raise ValueError(
            f"a film can begin with one of these only, but {' and '.join(connected)} are connected: keep one of them"
        )


def _check_plans(graph: QueuedGraph, script: Script, values: dict[str, Any], samplers: list[str]) -> None:
    """Raise ValueError if the timeline cannot be planned in the chunks of a sampler that takes it."""
    chunks = {known_values(graph, sampler, sampler_inputs())["chunk"]: sampler for sampler in reversed(samplers)}
    for chunk, sampler in (chunks or {3: None}).items():
        if chunk is UNKNOWN:
            continue
        try:
            script.plan(requested_seconds(values["duration"]), values["fps"], chunk)
        except ValueError as error:
            where = "" if chunk == 3 else f" (chunk {chunk} of {graph.title(sampler)})"
            raise ValueError(f"{error}{where}") from error


def _first_error(graph: QueuedGraph, script: Script, sampler: str) -> str | None:
    """Return the error of a first prompt with a transition, in a film that does not extend a take."""
    if graph.link(sampler, "take") is not None:
        return None
    try:
        check_first(script.segments[0])
    except ValueError as error:
        return f"{error}, or connect a take to {graph.title(sampler)}"
    return None


def _stream(values: dict[str, Any], preset: str | None) -> StreamConfig | None:
    """Return the sampler's settings; None if those that depend on one another are not all known."""
    settings = {name: values[name] for name in ("window", "sink", "chunk", "shift", "sink_policy")}
    own = PRESETS[preset or "pocket"].positions  # if the MODEL is not known yet, either works here
    settings["positions"] = own if values["positions"] == AUTO else values["positions"]
    return None if UNKNOWN in settings.values() else StreamConfig(**settings)


def _check_length(graph: QueuedGraph, node: str, stream: StreamConfig, endless_only: bool) -> None:
    """Raise ValueError if the timeline is longer than the settings allow. The timeline node reports its own errors.

    endless_only: the positions are not known, so check only whether an endless film is allowed.
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
    """Return the preset of a sampler's MODEL, if its file shows it; see `compat.preset_of`.

    Nodes between loader and sampler, such as LoRA loaders, are followed through their input `model`.
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
