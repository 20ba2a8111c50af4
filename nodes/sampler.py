"""Stream Sampler: a timeline becomes a film, chunk by chunk, straight into a file."""

from __future__ import annotations

import json
from collections import Counter

from comfy_api.latest import InputImpl, io, ui

from ..longlive_core.config import POSITIONS, SINK_POLICIES, StreamConfig
from ..longlive_core.noise import MAX_SEED
from ..longlive_core.render import check_size
from . import compat, compat_server
from .filming import Filming
from .handles import TakeType
from .search_words import WORDS
from .timeline import TimelineType

AUTO = "auto"
CHUNKS = [3, 1]
KEEP, DISCARD = "keep partial", "discard"

# By node: how many of its results were not what its inputs ask for. As part of a result's fingerprint it keeps ComfyUI
# from taking such a one for the whole film.
_partial_results: Counter[str] = Counter()


class LongLiveStreamSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.schema(
            node_id="LongLiveStreamSampler",
            display_name="Stream Sampler",
            category="LongLive",
            description="Renders a timeline chunk by chunk: every chunk is denoised, decoded and written before the "
            "next begins, so memory does not grow with the film. All of it is kept as a take: after Cancel, a crash or "
            "a change the next run makes only what is missing.",
            has_intermediate_output=True,
            search_aliases=WORDS["LongLiveStreamSampler"],
            inputs=[*_main_inputs(), *_advanced_inputs(), *_later_inputs()],
            outputs=[io.Video.Output(display_name="VIDEO"), TakeType.Output(display_name="TAKE")],
        )

    @classmethod
    def validate_inputs(cls, width=None, height=None, window=None, sink=None, sink_policy=None, chunk=None,
                        positions=None, on_cancel=None):  # fmt: skip
        settings = {"sink_policy": sink_policy, "positions": None if positions == AUTO else positions}
        if None not in (window, sink, chunk):  # linked ones are known when it runs
            settings |= {"window": window, "sink": sink, "chunk": chunk}
        try:
            if None not in (width, height):
                check_size(width, height)
            if chunk not in (None, *CHUNKS):
                raise ValueError(f"chunk {chunk!r}: allowed are {' and '.join(map(str, CHUNKS))} latent frames")
            if on_cancel not in (None, KEEP, DISCARD):
                raise ValueError(f"on_cancel {on_cancel!r}: allowed are {KEEP!r} and {DISCARD!r}")
            StreamConfig(**{name: value for name, value in settings.items() if value is not None})
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, **inputs):
        return _partial_results[compat_server.who_runs()[0]]

    @classmethod
    def execute(cls, model, vae, timeline, seed, width, height, steps, shift, window, sink, sink_policy, chunk,
                positions, on_cancel=KEEP, start_image=None, start_latent=None, take=None, **removed
                ) -> io.NodeOutput:  # fmt: skip
        compat.refuse_removed(removed)
        compat.refuse_missing(MODEL=model, VAE=vae)
        check_size(width, height)
        stream = StreamConfig(
            window=window, sink=sink, chunk=chunk, sink_policy=sink_policy, shift=shift,
            denoising_steps=StreamConfig.even_steps(steps),
            positions=compat.preset_of(model).positions if positions == AUTO else positions,
        )  # fmt: skip
        start = _start(vae, (width, height), chunk, start_image, start_latent, take)
        filmed = Filming(model, vae, timeline, stream, seed, (width, height), start).run(on_cancel == KEEP)
        if not filmed.as_asked:
            _partial_results[compat_server.who_runs()[0]] += 1
        report = json.dumps(filmed.report, ensure_ascii=False)
        return io.NodeOutput(InputImpl.VideoFromFile(filmed.path), filmed.take, ui=ui.PreviewText(report))


def _start(vae, size: tuple[int, int], chunk: int, image, latent, take):
    """What the film begins with, see `Filming`. ValueError for more than one thing."""
    given = {"start_image": image, "start_latent": latent, "take": take}
    connected = [name for name, value in given.items() if value is not None]
    if len(connected) > 1:
        raise ValueError(f"a film begins with one thing, but {' and '.join(connected)} are connected: keep one of them")
    if image is not None:
        return compat.encode_clip(vae, image, size, chunk)
    return take if latent is None else compat.normalised(latent)


def _main_inputs() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="A LongLive or Self-Forcing model, from Load LongLive or any other loader; "
                       "LoRA loaders may lie in between."),
        io.Vae.Input("vae", tooltip="Wan 2.1's VAE, or the pocket model's."),
        TimelineType.Input("timeline", tooltip="What happens when, from Prompt Timeline."),
        compat.widget(
            io.Int, "seed", default=0, min=0, max=MAX_SEED, control_after_generate=True,
            tooltip="Equal seed and settings give an equal film. The film's beginning does not depend on its length "
            "or on later prompts.",
        ),
        compat.widget(
            io.Int, "width", default=832, min=16, max=2048, step=16,
            tooltip="Pixels, a multiple of 16. Width x height of LongLive: 832x480 as trained, 480x832 portrait, "
            "624x352 for drafts. Pocket model: 128x80.",
        ),
        compat.widget(
            io.Int, "height", default=480, min=16, max=2048, step=16,
            tooltip="Pixels, a multiple of 16. Width x height of LongLive: 832x480 as trained, 480x832 portrait, "
            "624x352 for drafts. Pocket model: 128x80.",
        ),
    ]  # fmt: skip


def _advanced_inputs() -> list[io.Input]:
    return [
        compat.widget(
            io.Int, "steps", default=4, min=1, max=50, advanced=True,
            tooltip="Denoising steps a chunk, evenly spaced from 1000. The models were distilled to 4; 2 is a fast "
            "draft. There is no CFG and no negative prompt: guidance was distilled into the model.",
        ),
        compat.widget(
            io.Float, "shift", default=5.0, min=0.1, max=100.0, step=0.1, advanced=True,
            tooltip="Of the flow-matching schedule, usually 3 to 8; larger spends more steps on noise. The models were "
            "trained with 5.",
        ),
        compat.widget(
            io.Int, "window", default=12, min=-1, max=1023, advanced=True,
            tooltip="Latent frames (1/4 s each at 16 fps) a chunk sees, counting the sink and itself. -1: the whole "
            "film so far, which needs memory without end. LongLive: 12; less saves memory and time and forgets sooner. "
            "Self-Forcing: -1.",
        ),
        compat.widget(
            io.Int, "sink", default=3, min=0, max=1020, advanced=True,
            tooltip="First latent frames of a shot that stay in sight for ever; they hold subject and style "
            "together. LongLive: 3. With window -1 it must be 0.",
        ),
        compat.widget(
            io.Combo, "sink_policy", options=list(SINK_POLICIES), default="held", advanced=True,
            tooltip="At a change of prompt later than the window: held keeps the sink as it was (LongLive), refreshed "
            "takes it from the last frames.",
        ),
        compat.widget(
            io.Combo, "chunk", options=CHUNKS, default=3, advanced=True,
            tooltip="Latent frames denoised together: 3 for LongLive and Self-Forcing, 1 for frame-wise models.",
        ),
        compat.widget(
            io.Combo, "positions", options=[AUTO, *POSITIONS], default=AUTO, advanced=True,
            tooltip="How frames are numbered for the model. absolute: from the shot's start, at most 256 s at 16 fps "
            "(LongLive's training). relative: inside the window, no end. auto: relative for the pocket model, "
            "absolute for all others.",
        ),
    ]  # fmt: skip


def _later_inputs() -> list[io.Input]:
    """Behind the others, so that the values of older workflows stay with their widgets."""
    return [
        compat.widget(
            io.Combo, "on_cancel", options=[KEEP, DISCARD], default=KEEP, optional=True,
            tooltip="What Cancel does. keep partial: the film ends there, and nodes such as Save Video get it. "
            "discard: everything stops. Either way the chunks so far are kept, and the next run goes on after them.",
        ),
        io.Image.Input("start_image", optional=True, tooltip="A picture or a clip that the film begins with, scaled "
                       "and cropped to its size. A picture stands for the first chunk; of a clip the last whole chunks "
                       "are taken. Describe it in the first prompt."),
        io.Latent.Input("start_latent", optional=True, tooltip="Latents of Wan 2.1 that the film begins with: whole "
                        "chunks (3 latent frames), in the film's size."),
        TakeType.Input("take", optional=True, tooltip="A take that the film goes on after; the timeline's times count "
                       "from its end. Where the new timeline begins with the take's last prompt, the film is the "
                       "longer one."),
    ]  # fmt: skip
