"""Prompt Timeline: prompts over time, parsed, snapped to chunks and encoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from ..longlive_core.reports import timeline_report
from ..longlive_core.timeline import Plan, Script, parse
from . import compat
from .search_words import WORDS

TimelineType = io.Custom("LONGLIVE_TIMELINE")

OWN_LENGTH, ENDLESS = -1, 0  # durations that are none
EXAMPLE = "0s A red ball bounces on a meadow.\n10s A red ball circles on a meadow."


@dataclass(frozen=True)
class Timeline:
    """What travels from the timeline to the sampler; small, on the CPU.

    Attributes:
        text: as written. script: parsed. duration: seconds, or None for the script's own length. fps: frames a second.
        endless: render on after that until it is finished by hand.
        contexts: the embedding [1, L, width] of each distinct prompt.
        clip: the text encoder, for prompts that come later.
    """

    text: str
    script: Script
    duration: float | None
    fps: float
    contexts: dict[str, Tensor] = field(repr=False)
    clip: Any = field(repr=False)
    endless: bool = False

    def plan(self, chunk: int) -> Plan:
        """The film in chunks of `chunk` latent frames."""
        return self.script.plan(self.duration, self.fps, chunk)


class LongLivePromptTimeline(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.schema(
            node_id="LongLivePromptTimeline",
            display_name="Prompt Timeline",
            category="LongLive",
            description="Prompts over time, one a line with its time in front. Shows to which times they snap, and "
            "how long the film will be.",
            has_intermediate_output=True,
            search_aliases=WORDS["LongLivePromptTimeline"],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder: the CLIP of Load LongLive, or of CLIPLoader (wan)."),
                compat.widget(
                    io.String, "text", default=EXAMPLE, multiline=True, dynamic_prompts=False,
                    tooltip="One prompt a line, its time in front: 12s, 0:12 or 16c (chunks); the first at 0s. Or "
                    "[0s-5s: text], or prompts without times, split evenly. At the end of a line {keep} keeps the "
                    "old prompt's memory, {cut} starts a new shot. A line '* text' is put before every prompt. Name "
                    "subject and setting in every prompt: the model sees only the one in force.",
                ),
                compat.widget(
                    io.Float, "duration", default=20.0, min=-1.0, max=86400.0, step=0.5,
                    tooltip="Length of the film in seconds, rounded up to whole chunks (0.75 s at 16 fps). -1: as long "
                    "as the timeline itself says. 0: without end, until you press Finish or cancel.",
                ),
                compat.widget(
                    io.Float, "fps", default=16.0, min=1.0, max=120.0, step=1.0,
                    tooltip="Frames per second of the film. The models were trained at 16; other rates play faster "
                    "or slower.",
                ),
            ],
            outputs=[TimelineType.Output(display_name="TIMELINE")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, text=None, duration=None, fps=None):
        if text is None:  # linked: known when it runs
            return True
        try:
            script = parse(text, goes_on=True)  # a take may lie before it; the sampler knows
            if duration is not None and fps is not None:
                script.plan(seconds_asked(duration), fps)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, clip, text, duration, fps, **removed) -> io.NodeOutput:
        compat.refuse_missing(CLIP=clip)
        compat.refuse_removed(removed)
        script = parse(text, goes_on=True)
        seconds = seconds_asked(duration)
        plan = script.plan(seconds, fps)
        contexts = {prompt: compat.encode_text(clip, prompt) for prompt in plan.texts}
        timeline = Timeline(text, script, seconds, fps, contexts, clip, endless=duration == ENDLESS)
        return io.NodeOutput(timeline, ui=ui.PreviewText(timeline_report(plan, timeline.endless)))


def seconds_asked(duration: float) -> float | None:
    """The widget's value as a plan takes it; None: the timeline's own length."""
    if duration < 0 and duration != OWN_LENGTH:
        raise ValueError(f"the duration is {duration:g} s: give seconds, {OWN_LENGTH} for the timeline's own length, "
                         f"or {ENDLESS} for a film without end")  # fmt: skip
    return duration if duration > 0 else None
