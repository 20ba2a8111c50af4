"""The inputs of Prompt Timeline and Stream Sampler, in their order.

Workflow files store widget values by position, so **only append**: required inputs after the last required one,
optional inputs after the last optional one. Sockets have no value and may be anywhere. tests/test_input_order.py checks
the order.
"""

from __future__ import annotations

from comfy_api.latest import io

from ..longlive_core.config import POSITIONS, SINK_POLICIES
from ..longlive_core.engine.noise import MAX_SEED
from ..longlive_core.sizes import CHOICES
from . import compat
from .handles import TakeType

TimelineType = io.Custom("LONGLIVE_TIMELINE")

AUTO = "auto"
CHUNKS = [3, 1]
KEEP, DISCARD = "keep partial", "discard"
OWN_LENGTH, ENDLESS = -1, 0  # special values of the duration
EXAMPLE = "0s A red ball bounces on a meadow.\n3s A blue star bounces in the snow."  # the pocket model can draw it


def requested_seconds(duration: float) -> float | None:
    """Return the duration widget's value as a plan expects it; None: the timeline's own length."""
    if duration < 0 and duration != OWN_LENGTH:
        raise ValueError(
            f"the duration is {duration:g} s: give seconds, {OWN_LENGTH} for the timeline's own length, "
            f"or {ENDLESS} for a film without end"
        )
    return duration if duration > 0 else None


def timeline_inputs() -> list[io.Input]:
    return [
        io.Clip.Input("clip", tooltip="The text encoder: the CLIP of Load LongLive, or of CLIPLoader (wan)."),
        compat.widget(
            io.String,
            "text",
            default=EXAMPLE,
            multiline=True,
            dynamic_prompts=False,
            tooltip="One prompt per line, with its time in front: 12s, 0:12 or 16c (chunks); the first at 0s. Also "
            "[0s-5s: text], or prompts without times, which split the duration evenly. At the end of a line, {keep} "
            "keeps the old prompt's memory and {cut} starts a new shot. A line '* text' is put before every prompt. "
            "Name subject and setting in every prompt: the model sees only the current one.",
        ),
        compat.widget(
            io.Float,
            "duration",
            default=6.0,
            min=-1.0,
            max=86400.0,
            step=0.5,
            tooltip="Length of the film in seconds, rounded up to whole chunks (0.75 s at 16 fps). -1: the timeline's "
            "own length. 0: no end, until you press Finish or Cancel.",
        ),
        compat.widget(
            io.Float,
            "fps",
            default=16.0,
            min=1.0,
            max=120.0,
            step=1.0,
            tooltip="Frames per second of the film. The models were trained at 16; other rates play the film faster or "
            "slower.",
        ),
    ]


def sampler_inputs() -> list[io.Input]:
    return [*_required_inputs(), *_film_inputs(), *_sockets(), *_schedule_inputs(), *_memory_inputs(), *_frame_inputs()]


def _required_inputs() -> list[io.Input]:
    return [
        io.Model.Input(
            "model",
            tooltip="A LongLive or Self-Forcing model, from Load LongLive or any other loader, directly or through "
            "LoRA loaders.",
        ),
        io.Vae.Input("vae", tooltip="Wan 2.1's VAE, or the pocket model's."),
        TimelineType.Input("timeline", tooltip="The prompts and their times, from Prompt Timeline."),
        compat.seed_widget(
            "seed",
            default=0,
            min=0,
            max=MAX_SEED,
            tooltip="The same seed and settings give the same film. The film's beginning does not depend on its length "
            "or on later prompts. Leave control after generate at fixed: queueing again then continues the same film.",
        ),
    ]


def _film_inputs() -> list[io.Input]:
    return [
        compat.widget(
            io.Combo,
            "size",
            options=list(CHOICES),
            default=AUTO,
            optional=True,
            tooltip="auto: the size the model was trained at, 832x480 (pocket model: 128x80); after a take, the take's "
            "size. landscape: the trained size. portrait: 480x832 (pocket: 112x128, where its shapes get worse). "
            "draft: 624x352 (pocket: 112x80). For any other size, leave this at auto and set width and height.",
        ),
        compat.widget(
            io.Int,
            "width",
            default=0,
            min=0,
            max=2048,
            step=16,
            optional=True,
            tooltip="In pixels, a multiple of 16, with size at auto. 0, with height 0: use size.",
        ),
        compat.widget(
            io.Int,
            "height",
            default=0,
            min=0,
            max=2048,
            step=16,
            optional=True,
            tooltip="In pixels, a multiple of 16, with size at auto. 0, with width 0: use size.",
        ),
        compat.widget(
            io.Combo,
            "on_cancel",
            options=[KEEP, DISCARD],
            default=KEEP,
            optional=True,
            tooltip="What Cancel does. keep partial: the film ends there, and nodes such as Save Video receive it. "
            "discard: everything stops. In both cases the rendered chunks are kept, and the next run resumes after "
            "them.",
        ),
    ]


def _sockets() -> list[io.Input]:
    return [
        io.Image.Input(
            "start_image",
            optional=True,
            tooltip="A picture or a clip that the film begins with, scaled and cropped to the film's size. A picture "
            "is shown for the first chunk; of a clip, the last whole chunks are used. Describe it in the first prompt.",
        ),
        io.Latent.Input(
            "start_latent",
            optional=True,
            tooltip="Wan 2.1 latents that the film begins with: whole chunks (3 latent frames), in the film's size.",
        ),
        TakeType.Input(
            "take",
            optional=True,
            tooltip="A take to extend. The timeline's times count from the take's end. If the new timeline begins with "
            "the take's last prompt, the film simply becomes longer.",
        ),
    ]


def _schedule_inputs() -> list[io.Input]:
    return [
        compat.widget(
            io.Int,
            "steps",
            default=4,
            min=1,
            max=50,
            optional=True,
            advanced=True,
            tooltip="Denoising steps per chunk, evenly spaced from timestep 1000. The models were distilled to 4; 2 "
            "gives a fast draft. There is no CFG and no negative prompt: guidance was distilled into the model.",
        ),
        compat.widget(
            io.Float,
            "shift",
            default=5.0,
            min=0.1,
            max=100.0,
            step=0.1,
            optional=True,
            advanced=True,
            tooltip="Shift of the flow-matching schedule, usually 3 to 8. A larger shift spends more steps at high "
            "noise. The models were trained with 5.",
        ),
    ]


def _memory_inputs() -> list[io.Input]:
    return [
        compat.widget(
            io.Int,
            "window",
            default=12,
            min=-1,
            max=1023,
            optional=True,
            advanced=True,
            tooltip="Latent frames (1/4 s each at 16 fps) that a chunk sees, including the sink and the chunk itself. "
            "-1: the whole film so far, so memory grows without limit. LongLive: 12; a smaller window saves memory and "
            "time but forgets sooner. Self-Forcing: -1.",
        ),
        compat.widget(
            io.Int,
            "sink",
            default=3,
            min=0,
            max=1020,
            optional=True,
            advanced=True,
            tooltip="The first latent frames of a shot, which all later chunks see; they keep subject and style "
            "consistent. LongLive: 3. With window -1 it must be 0.",
        ),
        compat.widget(
            io.Combo,
            "sink_policy",
            options=list(SINK_POLICIES),
            default="held",
            optional=True,
            advanced=True,
            tooltip="The sink at a prompt switch that comes later than the window. held: keep it unchanged (LongLive). "
            "refreshed: take it from the latest frames.",
        ),
    ]


def _frame_inputs() -> list[io.Input]:
    return [
        compat.widget(
            io.Combo,
            "chunk",
            options=CHUNKS,
            default=3,
            optional=True,
            advanced=True,
            tooltip="Latent frames denoised together: 3 for LongLive and Self-Forcing, 1 for frame-wise models.",
        ),
        compat.widget(
            io.Combo,
            "positions",
            options=[AUTO, *POSITIONS],
            default=AUTO,
            optional=True,
            advanced=True,
            tooltip="How frames are numbered for the model. absolute: from the shot's start, at most 256 s at 16 fps "
            "(LongLive's training). relative: inside the window, without a limit. auto: relative for the pocket model, "
            "absolute for all others.",
        ),
    ]
