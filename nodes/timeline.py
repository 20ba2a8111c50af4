"""The node Prompt Timeline: prompts over time, parsed, snapped to chunks and encoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from ..longlive_core.cancelling import cancellable
from ..longlive_core.timeline import Plan, Script, parse, timeline_report
from . import compat
from .inputs import CHUNKS, ENDLESS, TimelineType, requested_seconds, timeline_inputs
from .search_words import WORDS
from .validation import widget_values
from .validation.film import TIMELINE, timeline_error
from .validation.queued import validate_queued


@dataclass(frozen=True)
class Timeline:
    """The output of Prompt Timeline for Stream Sampler; small, on the CPU.

    Attributes:
        text: as written. script: parsed. duration: seconds, or None for the script's own length. fps: frames per
        second.
        endless: after that, continue until the user finishes the film.
        contexts: the embedding [1, L, width] of each distinct prompt.
        clip: the text encoder, for prompts that are sent while the film is rendered.
    """

    text: str
    script: Script
    duration: float | None
    fps: float
    contexts: dict[str, Tensor] = field(repr=False)
    clip: Any = field(repr=False)
    endless: bool = False

    def plan(self, chunk: int) -> Plan:
        """Return the plan of the film in chunks of `chunk` latent frames."""
        return self.script.plan(self.duration, self.fps, chunk)


class LongLivePromptTimeline(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.schema(
            node_id=TIMELINE,
            display_name="Prompt Timeline",
            category="LongLive",
            description="Prompts over time, one per line with its time in front. Shows the snapped times and the "
            "film's length.",
            has_intermediate_output=True,
            search_aliases=WORDS["LongLivePromptTimeline"],
            inputs=timeline_inputs(),
            outputs=[TimelineType.Output(display_name="TIMELINE")],
        )

    @classmethod
    def validate_inputs(cls, text=None):  # one argument: see compat.queued_prompt
        return validate_queued(TIMELINE, timeline_error, alone=_text_error(text))

    @classmethod
    @compat.cancellable()
    def execute(cls, clip, text, duration, fps, **removed) -> io.NodeOutput:
        compat.refuse_missing(CLIP=clip)
        given = widget_values.settings(timeline_inputs(), {"text": text, "duration": duration, "fps": fps, **removed})
        script, fps = (
            parse(given["text"], continues=True),
            given["fps"],
        )  # the sampler checks a first transition
        seconds, endless = requested_seconds(given["duration"]), given["duration"] == ENDLESS
        plan = _plan_shown(script, seconds, fps)
        contexts = {prompt: compat.text.encode_text(clip, prompt) for prompt in cancellable(plan.texts)}
        timeline = Timeline(given["text"], script, seconds, fps, contexts, clip, endless)
        cuts = [cut for prompt in cancellable(plan.texts) if (cut := compat.text.text_cut(clip, prompt))]
        return io.NodeOutput(timeline, ui=ui.PreviewText(timeline_report(plan, endless, cuts)))


def _text_error(text: Any) -> str | None:
    """Return the error of a text; None for other values: links are checked at run time, other types elsewhere."""
    try:
        if isinstance(text, str):
            parse(text, continues=True)
    except ValueError as error:
        return str(error)
    return None


def _plan_shown(script: Script, seconds: float | None, fps: float) -> Plan:
    """Plan in chunks of the usual size; if a prompt is too short for them, in those of frame-wise models."""
    try:
        return script.plan(seconds, fps, CHUNKS[0])
    except ValueError:
        try:
            return script.plan(seconds, fps, CHUNKS[1])
        except ValueError:
            pass
        raise
