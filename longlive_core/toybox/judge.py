"""The judge of the toybox: it reads what a film shows from the pixels alone.

It works by analysis by synthesis. The setting is the one whose ground is nearest to the picture. To find the subject,
the judge places every template (colour, shape, size, angle) over that ground at every position and keeps the one that
explains most of the difference. The action follows from how position, angle and size change over several samples: the
motion of each action is fitted to them, and the nearest one wins. No part is learned, and the judge does not know the
prompt.

Shapes: T frames, N samples, K templates, H, W pixels of the half-size picture on which the judge works.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import HEIGHT, WIDTH, drawing, motion

STRIDE = 4  # frames between samples: one latent frame
ANGLES = 12
SWELLS = (36, 28, 0, 4, 12)  # frames of a pulse at which the size is 0.7, 0.85, 1, 1.15, 1.3
SHRINK = 2  # the judge works on pictures of half the size
PRESENT = 0.35  # smallest share of a subject's contrast at which the judge reports a subject


@dataclass(frozen=True)
class Sight:
    """What the judge sees in one frame. Without a subject (`presence` below `PRESENT`), colour and shape are None."""

    setting: str
    colour: str | None
    shape: str | None
    x: float
    y: float
    angle: float  # turns
    size: float
    presence: float  # 1: as the toybox draws it, 0: bare ground


@dataclass(frozen=True)
class Reading:
    """What several consecutive samples show together. Fields that cannot be read are None."""

    colour: str | None
    shape: str | None
    action: str | None
    setting: str


def _shrunk(pictures: Tensor) -> Tensor:
    """Halve pictures [..., 80, 128] -> [..., H, W]."""
    return F.avg_pool2d(pictures.flatten(0, -3)[:, None], SHRINK)[:, 0].unflatten(0, pictures.shape[:-2])


@functools.cache
def _grounds() -> Tensor:
    """Return the ground of every setting, [settings, 3, H, W]."""
    full = [np.tile(tile, (HEIGHT // drawing.TILE, WIDTH // drawing.TILE, 1)) for tile in drawing.SETTINGS.values()]
    return _shrunk(torch.from_numpy(np.stack(full)).permute(0, 3, 1, 2))


@dataclass(frozen=True)
class _Templates:
    """All poses of all shapes, centred on the corner of a picture that wraps around."""

    poses: list[tuple[str, motion.State]]
    body: Tensor  # [K, H, W], where the colour is
    ink: Tensor  # [K, H, W], outline and dot
    spectra: tuple[Tensor, Tensor, Tensor]  # of body, ink, and both


@functools.cache
def _templates() -> _Templates:
    states = [motion.State(0.0, 0.0, turn / ANGLES, swell=swell) for turn in range(ANGLES) for swell in SWELLS]
    poses = [(shape, state) for shape in drawing.SHAPES for state in states]
    x, y = drawing.own_coordinates(states)
    parts = [drawing.coverage(shape, x, y) for shape in drawing.SHAPES]
    bodies, inks = [body for body, _ in parts], [mask - body for body, mask in parts]
    body, ink = (_shrunk(torch.from_numpy(np.concatenate(part)).float()) for part in (bodies, inks))
    return _Templates(poses, body, ink, (_spectrum(body), _spectrum(ink), _spectrum(body + ink)))


def _spectrum(masks: Tensor) -> Tensor:
    return torch.fft.rfft2(masks).conj()


def _correlate(spectra: Tensor, values: Tensor) -> Tensor:
    """Sum [H, W] values under each of K masks (as spectra), shifted to every position: [K, H, W]."""
    return torch.fft.irfft2(spectra * torch.fft.rfft2(values), s=values.shape[-2:])


@functools.cache
def _contrast(setting: str) -> Tensor:
    """Return |S - G|^2 of every subject S on the ground G of a setting, by position: [colours, K, H, W]."""
    ground, t = _grounds()[list(drawing.SETTINGS).index(setting)], _templates()
    ink, mask = torch.tensor(drawing.INK), t.body + t.ink
    shared = _correlate(_spectrum(mask.square()), ground.square().sum(dim=0))
    shared -= 2 * _correlate(_spectrum(t.ink * mask), torch.einsum("c,chw->hw", ink, ground))
    shared += (t.ink.square().sum(dim=(1, 2)) * ink.square().sum())[:, None, None]
    coloured = torch.stack([_correlate(_spectrum(t.body * mask), channel) for channel in ground])  # [3, K, H, W]
    areas, edges = t.body.square().sum(dim=(1, 2)), 2 * (t.body * t.ink).sum(dim=(1, 2))
    return torch.stack(
        [
            shared
            - 2 * torch.einsum("c,ckhw->khw", colour, coloured)
            + (areas * colour.square().sum() + edges * (colour * ink).sum())[:, None, None]
            for colour in torch.tensor(list(drawing.COLOURS.values()))
        ]
    )


def _setting(frame: Tensor) -> str:
    """Return the setting whose ground is nearest to most pixels of a frame [3, H, W], both slightly smoothed."""
    smooth = F.avg_pool2d(torch.cat([frame[None], _grounds()]), 2, stride=1)
    distance = (smooth[1:] - smooth[:1]).abs().sum(dim=1).flatten(1).median(dim=1).values
    return list(drawing.SETTINGS)[int(distance.argmin())]


def look(frame: np.ndarray) -> Sight:
    """Read one frame, uint8 [80, 128, 3]."""
    picture = _shrunk(torch.from_numpy(frame).permute(2, 0, 1).float())
    setting = _setting(picture)
    ground, t = _grounds()[list(drawing.SETTINGS).index(setting)], _templates()
    # A subject S on the ground G explains |F - G|^2 - |F - S|^2 = 2 (F - G) (S - G) - |S - G|^2 of the picture F,
    # where S - G = body * colour + ink - mask * G.
    over = picture - ground
    body, ink, whole = t.spectra
    shared = _correlate(ink, torch.einsum("c,chw->hw", torch.tensor(drawing.INK), over))
    shared -= _correlate(whole, (over * ground).sum(dim=0))
    coloured = torch.stack([_correlate(body, channel) for channel in over])  # [3, K, H, W]
    colours, contrast = torch.tensor(list(drawing.COLOURS.values())), _contrast(setting)
    gain = 2 * (shared + torch.einsum("nc,ckhw->nkhw", colours, coloured)) - contrast
    best = np.unravel_index(int(gain.argmax()), gain.shape)
    colour, pose, row, column = (int(index) for index in best)
    presence = float(gain[best] / contrast[best])
    seen, (shape, state) = presence >= PRESENT, t.poses[pose]
    return Sight(
        setting,
        list(drawing.COLOURS)[colour] if seen else None,
        shape if seen else None,
        float(column * SHRINK),
        float(row * SHRINK),
        state.angle,
        state.size,
        presence,
    )


def watch(frames: np.ndarray, stride: int = STRIDE) -> list[Sight]:
    """Read every `stride`-th frame of a film, uint8 [T, 80, 128, 3]."""
    if frames.shape[1:] != (HEIGHT, WIDTH, 3) or frames.dtype != np.uint8:
        raise ValueError(
            f"the judge reads uint8 films [T, {HEIGHT}, {WIDTH}, 3], got {frames.dtype} {list(frames.shape)}"
        )
    return [look(frame) for frame in frames[::stride]]


# --- actions ---------------------------------------------------------------------------------------------------------


def _unwrapped(values: Sequence[float], period: float) -> np.ndarray:
    return np.unwrap(np.asarray(values, float), period=period)


def _misfit(track: np.ndarray, model: np.ndarray) -> float:
    """Return the root-mean-square distance in pixels between two tracks [N, 2] after the best shift of one."""
    apart = track - model
    return float(np.sqrt((apart - apart.mean(axis=0)).__pow__(2).sum(axis=1).mean()))


def _motions(times: np.ndarray) -> dict[str, list[np.ndarray]]:
    """Return, for every action that changes the position, its possible tracks [N, 2] at `times` (frames)."""
    still = np.zeros((len(times), 2))
    tracks = {"still": [still]}
    for action, way in {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}.items():
        tracks[action] = [motion.PACE * times[:, None] * np.array(way)]
    phases = [(times + start) / motion.ORBIT_FRAMES * 2 * math.pi for start in range(0, motion.ORBIT_FRAMES, 4)]
    tracks["circle"] = [motion.ORBIT * np.stack([np.cos(p), np.sin(p)], axis=1) for p in phases]
    hops = [((times + start) % motion.HOP_FRAMES) / motion.HOP_FRAMES for start in range(0, motion.HOP_FRAMES, 2)]
    tracks["bounce"] = [np.stack([0 * hop, -motion.HOP_HEIGHT * 4 * hop * (1 - hop)], axis=1) for hop in hops]
    return tracks


def _action(sights: Sequence[Sight], stride: int) -> str:
    times = stride * np.arange(len(sights), dtype=float)
    track = np.stack([_unwrapped([s.x for s in sights], WIDTH), _unwrapped([s.y for s in sights], HEIGHT)], axis=1)
    misfits = {name: min(_misfit(track, model) for model in models) for name, models in _motions(times).items()}
    nearest = min(misfits, key=misfits.get)
    if nearest != "still":
        return nearest
    turns = np.exp(2j * math.pi * np.diff([s.angle for s in sights])).mean()
    turning = float(np.angle(turns)) / (2 * math.pi) * motion.TURN_FRAMES / stride  # 1: the speed of a spin
    swelling = float(np.std([s.size for s in sights])) / (motion.SWELL / math.sqrt(2))  # 1: the range of a whole pulse
    if max(turning * abs(turns), swelling) < 0.45:
        return "rest"
    return "spin" if turning * abs(turns) > swelling else "pulse"


def _most(values: Sequence[str | None]) -> str | None:
    """Return the most frequent value; None if most samples show no subject."""
    return max(set(values), key=values.count)


def read(sights: Sequence[Sight], stride: int = STRIDE) -> Reading:
    """Read several consecutive samples together; about 24 frames are needed to tell the actions apart."""
    colour = _most([s.colour for s in sights])
    return Reading(
        colour,
        _most([s.shape for s in sights]),
        None if colour is None else _action(sights, stride),
        _most([s.setting for s in sights]),
    )
