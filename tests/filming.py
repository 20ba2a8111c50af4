"""Small video files of every kind that users have, written with PyAV."""

import struct
from fractions import Fraction

import av
import numpy as np

PIXELS = {"ffv1": "bgr0", "prores_ks": "yuv422p10le"}
# Red, green, blue and white from the upper left to the lower right.
CORNERS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255))


def ramp(count, width=64, height=48):
    """Grey frames that become lighter, uint8 [T, H, W, 3]."""
    levels = np.linspace(8, 240, count).round().astype(np.uint8)
    return np.tile(levels[:, None, None, None], (1, height, width, 3))


def four_corners(width=64, height=48):
    """A picture, uint8 [H, W, 3]."""
    picture = np.zeros((height, width, 3), np.uint8)
    for place, colour in enumerate(CORNERS):
        y, x = divmod(place, 2)
        picture[y * height // 2 : (y + 1) * height // 2, x * width // 2 : (x + 1) * width // 2] = colour
    return picture


def write_clip(
    path, frames, rate=16, stamps=None, base=None, codec="ffv1", pixels=None, options=None, set_up=None, sound=False
):
    """Write frames, uint8 [T, H, W, 3] or [T, H, W, 4].

    stamps: the frames' times in units of `base` (default: of a frame). set_up(stream): called before the first frame.
    sound: begins at 0 and lasts a second.
    """
    rate = Fraction(rate).limit_denominator(60060)
    kind = "rgba" if frames.shape[-1] == 4 else "rgb24"
    with av.open(str(path), "w", options={"strict": "experimental"}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels or PIXELS.get(codec, "yuv420p")
        stream.options = options or ({"crf": "4"} if codec == "libx264" else {})
        base = base or 1 / rate
        stream.codec_context.time_base = base
        if set_up is not None:
            set_up(stream)
        audio = container.add_stream("aac", rate=44100, layout="mono") if sound else None
        for index, pixel in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixel), format=kind).reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = index if stamps is None else int(stamps[index]), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if audio is not None:
            _write_sound(container, audio)
    return path


def write_sound(path):
    """A file of sound alone."""
    with av.open(str(path), "w") as container:
        _write_sound(container, container.add_stream("aac", rate=44100, layout="mono"))
    return path


def _write_sound(container, stream):
    for index in range(43):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 44100, 1024 * index
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def turn(path, a, b, c, d):
    """Give the first track of an MP4 or MOV this display matrix."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    values = (a, b, 0, c, d, 0, 0, 0)
    data[at : at + 36] = struct.pack(">8i", *(round(value * 65536) for value in values)) + struct.pack(">i", 1 << 30)
    path.write_bytes(bytes(data))
    return path
