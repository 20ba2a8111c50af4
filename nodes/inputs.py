"""The inputs of Prompt Timeline and Stream Sampler, in their order.

Workflows keep the values of widgets by position: **only append**, required ones behind the required, optional ones
behind the optional. Sockets have no value and may stand anywhere. tests/test_input_order.py holds the order.
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
OWN_LENGTH, ENDLESS = -1, 0  # durations that are none
EXAMPLE = "0s A red ball bounces on a meadow.\n3s A blue star bounces in the snow."  # the pocket model draws it


def seconds_asked(duration: float) -> float | None:
    """The duration widget's value as a plan takes it; None: the timeline's own length."""
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
            tooltip="One prompt a line, its time in front: 12s, 0:12 or 16c (chunks); the first at 0s. Or "
            "[0s-5s: text], or prompts without times, split evenly. At the end of a line {keep} keeps the "
            "old prompt's memory, {cut} starts a new shot. A line '* text' is put before every prompt. Name "
            "subject and setting in every prompt: the model sees only the one in force.",
        ),
        compat.widget(
            io.Float,
            "duration",
            default=6.0,
            min=-1.0,
            max=86400.0,
            step=0.5,
            tooltip="Length of the film in seconds, rounded up to whole chunks (0.75 s at 16 fps). -1: as long "
            "as the timeline itself says. 0: without end, until you press Finish or cancel.",
        ),
        compat.widget(
            io.Float,
            "fps",
            default=16.0,
            min=1.0,
            max=120.0,
            step=1.0,
            tooltip="Frames per second of the film. The models were trained at 16; other rates play faster or slower.",
        ),
    ]


def sampler_inputs() -> list[io.Input]:
    return [*_needed_inputs(), *_usual_inputs(), *_sockets(), *_advanced_inputs()]


def _needed_inputs() -> list[io.Input]:
    return [
        io.Model.Input(
            "model",
            tooltip="A LongLive or Self-Forcing model, from Load LongLive or any other loader; "
            "LoRA loaders may lie in between.",
        ),
        io.Vae.Input("vae", tooltip="Wan 2.1's VAE, or the pocket model's."),
        TimelineType.Input("timeline", tooltip="What happens when, from Prompt Timeline."),
        compat.seed_widget(
            "seed",
            default=0,
            min=0,
            max=MAX_SEED,
            tooltip="Equal seed and settings give an equal film. The film's beginning does not depend on its length "
            "or on later prompts. Control after generate stays at fixed, so that queueing again goes on with the same "
            "film.",
        ),
    ]


def _usual_inputs() -> list[io.Input]:
    return [
        compat.widget(
            io.Combo,
            "size",
            options=list(CHOICES),
            default=AUTO,
            optional=True,
            tooltip="auto: what the model was made for, 832x480 (pocket model: 128x80); after a take, the take's. "
            "landscape is the same, portrait 480x832 (pocket: 112x128, where its shapes suffer), draft 624x352 "
            "(pocket: 112x80). For another one leave this at auto and set width and height.",
        ),
        compat.widget(
            io.Int,
            "width",
            default=0,
            min=0,
            max=2048,
            step=16,
            optional=True,
            tooltip="Pixels, a multiple of 16, with size at auto. 0, and height 0: as size says.",
        ),
        compat.widget(
            io.Int,
            "height",
            default=0,
            min=0,
            max=2048,
            step=16,
            optional=True,
            tooltip="Pixels, a multiple of 16, with size at auto. 0, and width 0: as size says.",
        ),
        compat.widget(
            io.Combo,
            "on_cancel",
            options=[KEEP, DISCARD],
            default=KEEP,
            optional=True,
            tooltip="What Cancel does. keep partial: the film ends there, and nodes such as Save Video get it. "
            "discard: everything stops. Either way the chunks so far are kept, and the next run goes on after them.",
        ),
    ]


def _sockets() -> list[io.Input]:
    return [
        io.Image.Input(
            "start_image",
            optional=True,
            tooltip="A picture or a clip that the film begins with, scaled "
            "and cropped to its size. A picture stands for the first chunk; of a clip the last whole chunks "
            "are taken. Describe it in the first prompt.",
        ),
        io.Latent.Input(
            "start_latent",
            optional=True,
            tooltip="Latents of Wan 2.1 that the film begins with: whole chunks (3 latent frames), in the film's size.",
        ),
        TakeType.Input(
            "take",
            optional=True,
            tooltip="A take that the film goes on after; the timeline's times count "
            "from its end. Where the new timeline begins with the take's last prompt, the film is the "
            "longer one.",
        ),
    ]


def _advanced_inputs() -> list[io.Input]:
    return [
        compat.widget(
            io.Int,
            "steps",
            default=4,
            min=1,
            max=50,
            optional=True,
            advanced=True,
            tooltip="Denoising steps a chunk, evenly spaced from 1000. The models were distilled to 4; 2 is a fast "
            "draft. There is no CFG and no negative prompt: guidance was distilled into the model.",
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
            tooltip="Of the flow-matching schedule, usually 3 to 8; larger spends more steps on noise. The models were "
            "trained with 5.",
        ),
        compat.widget(
            io.Int,
            "window",
            default=12,
            min=-1,
            max=1023,
            optional=True,
            advanced=True,
            tooltip="Latent frames (1/4 s each at 16 fps) a chunk sees, counting the sink and itself. -1: the whole "
            "film so far, which needs memory without end. LongLive: 12; less saves memory and time and forgets sooner. "
            "Self-Forcing: -1.",
        ),
        compat.widget(
            io.Int,
            "sink",
            default=3,
            min=0,
            max=1020,
            optional=True,
            advanced=True,
            tooltip="First latent frames of a shot that stay in sight for ever; they hold subject and style "
            "together. LongLive: 3. With window -1 it must be 0.",
        ),
        compat.widget(
            io.Combo,
            "sink_policy",
            options=list(SINK_POLICIES),
            default="held",
            optional=True,
            advanced=True,
            tooltip="At a change of prompt later than the window: held keeps the sink as it was (LongLive), refreshed "
            "takes it from the last frames.",
        ),
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
            "(LongLive's training). relative: inside the window, no end. auto: relative for the pocket model, "
            "absolute for all others.",
        ),
    ]
