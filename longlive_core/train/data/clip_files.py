"""Training clips: a folder of safetensors files, and an endless draw from it that needs no state to resume.

Each file (a shard) holds `latents` [N, C, T, h, w], bfloat16, normalised as the VAE's streaming encoder outputs them;
its metadata holds `prompts`, a JSON list of N texts. All clips of a folder have the same shape. Shards are ordered by
name, and only the clips that are drawn are read from disk.

Shapes: N clips of a shard, B clips drawn, C channels, T latent frames, h, w latent size.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...checkpoints.tensor_files import write_safetensors
from ...film.start_inputs import empty_frames
from .shuffling import Epochs, first_place

LATENTS, PROMPTS = "latents", "prompts"
FLOATS = ("BF16", "F16", "F32")


@dataclass(frozen=True)
class DrawnClips:
    """The clips of a step.

    Attributes:
        latents: [B, C, T, h, w], float32, on the CPU.
        prompts: B texts.
    """

    latents: Tensor
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class Shard:
    """A shard's metadata, without its clips. shape: (C, T, h, w)."""

    path: Path
    shape: tuple[int, int, int, int]
    prompts: tuple[str, ...]
    metadata: dict[str, str]


def write_shard(
    path: str | os.PathLike, latents: Tensor, prompts: Sequence[str], metadata: dict[str, str] | None = None
) -> None:
    """Write clips [N, C, T, h, w] with their N prompts and extra metadata; no incomplete file is ever left.

    ValueError for clips that are not finite, are empty, or differ in number from the prompts.
    """
    if latents.dim() != 5 or len(latents) != len(prompts) or not len(prompts):
        raise ValueError(
            f"clips of shape {list(latents.shape)} with {len(prompts)} prompts: expected "
            "[N, channels, frames, height, width] with N prompts, N at least 1"
        )
    if not torch.isfinite(latents).all():
        raise ValueError(
            f"the clips for {path} contain NaN or infinite numbers, so the file was not written; check the "
            "model that produces them"
        )
    empty = [number for number, clip in enumerate(latents) if empty_frames(clip)]
    if empty:
        raise ValueError(
            f"of the clips for {path}, number {', '.join(map(str, empty))} have empty latent frames (all "
            "numbers the same), so the file was not written; check the encoder"
        )
    texts = {PROMPTS: json.dumps(list(prompts), ensure_ascii=False)}
    write_safetensors(path, {LATENTS: latents.to(torch.bfloat16).cpu()}, {**(metadata or {}), **texts})


def read_shard(path: Path) -> Shard:
    """Read and check a shard's metadata. ValueError, with the file's name, if it is invalid."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if LATENTS not in file.keys():
                raise ValueError(
                    f"{path} has no tensor '{LATENTS}' (it has: {', '.join(file.keys()) or 'none'}), so "
                    "it is not a file of clips; remove it from the folder"
                )
            part = file.get_slice(LATENTS)
            shape, dtype = tuple(part.get_shape()), part.get_dtype()
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is damaged or not a safetensors file ({error}); create it again, or remove it from the folder"
        ) from None
    if len(shape) != 5 or dtype not in FLOATS:
        raise ValueError(
            f"{path}: '{LATENTS}' is {dtype} of shape {list(shape)}; expected BF16 [clips, channels, "
            "frames, height, width]"
        )
    return Shard(path, shape[1:], _prompts(path, metadata, shape[0]), metadata)


def _prompts(path: Path, metadata: dict[str, str], count: int) -> tuple[str, ...]:
    need = f"expected a JSON list of {count} texts, one per clip"
    if PROMPTS not in metadata:
        raise ValueError(f"{path}: there are no '{PROMPTS}' in the metadata; {need}")
    try:
        prompts = json.loads(metadata[PROMPTS])
    except ValueError as error:
        raise ValueError(f"{path}: '{PROMPTS}' in the metadata is not JSON ({error}); {need}") from None
    if not isinstance(prompts, list) or not all(isinstance(text, str) and text.strip() for text in prompts):
        raise ValueError(f"{path}: '{PROMPTS}' in the metadata is not a list of texts; {need}")
    if len(prompts) != count or not count:
        raise ValueError(f"{path}: {count} clips but {len(prompts)} prompts; {need}")
    return tuple(prompts)


class ClipFolder:
    """The clips of a folder, by number.

    Attributes:
        shape: (C, T, h, w) of every clip.

    Raises:
        ValueError: the folder does not exist or has no clips, a file is not a clip file, or shapes differ.
    """

    def __init__(self, folder: str | os.PathLike):
        folder = Path(folder)
        if not folder.is_dir():
            raise ValueError(
                f"there is no folder of clips '{folder}'; create one with `python -m longlive_core "
                "train-clips CONFIG.yaml --out FOLDER --count N`"
            )
        shards = [read_shard(path) for path in sorted(folder.glob("*.safetensors"))]
        if not shards:
            raise ValueError(
                f"the folder '{folder}' holds no clips (*.safetensors); create some with `python -m "
                "longlive_core train-clips CONFIG.yaml --out FOLDER --count N`"
            )
        self.shape = shards[0].shape
        for shard in shards:
            if shard.shape != self.shape:
                raise ValueError(
                    f"{shard.path} holds clips of {_shown(shard.shape)}, {shards[0].path.name} beside it "
                    f"of {_shown(self.shape)}; use one folder per shape"
                )
        self.shards = shards
        self.places = [(shard, index) for shard in shards for index in range(len(shard.prompts))]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> tuple[Tensor, str]:
        """Return clip [C, T, h, w], as stored, and its prompt."""
        shard, index = self.places[number]
        with safe_open(shard.path, framework="pt") as file:
            return file.get_slice(LATENTS)[index], shard.prompts[index]

    def check(self, size: tuple[int, int], chunk: int, channels: int | None = None) -> None:
        """Raise ValueError unless the clips have this latent size (h, w), at least two whole chunks, these channels."""
        c, t, h, w = self.shape
        where = f"the clips in '{self.shards[0].path.parent}' are of {_shown(self.shape)}"
        if channels not in (None, c):
            raise ValueError(f"{where}, but the student takes {channels} channels; encode them with its VAE")
        if (h, w) != size:
            raise ValueError(
                f"{where}, which is {8 * w}x{8 * h} pixels, but `size` is {8 * size[1]}x{8 * size[0]}; "
                "use clips of that size, or change `size`"
            )
        if t < 2 * chunk or t % chunk:
            raise ValueError(
                f"{where}; a clip must have whole chunks of {chunk} latent frames, and at least two "
                f"({2 * chunk} frames), because each chunk is trained given those before it"
            )

    def fingerprint(self) -> str:
        """Hash names, shapes and prompts: another folder, or one with added clips, has another fingerprint."""
        digest = hashlib.blake2b(digest_size=16)
        for shard in self.shards:
            digest.update(json.dumps([shard.path.name, shard.shape, shard.prompts]).encode())
        return digest.hexdigest()


class ClipStream:
    """Endless clips in shuffled epochs; a draw depends only on seed, step, count, rank and ranks.

    The concatenated draws of all ranks at a step equal the draw of a single rank with `count * ranks`.
    """

    def __init__(self, clips: ClipFolder, seed: int):
        self.clips, self.epochs = clips, Epochs(len(clips), seed)

    def draw(self, step: int, count: int, rank: int = 0, ranks: int = 1) -> DrawnClips:
        """Return a rank's `count` clips at a step. ValueError for a negative step, a count below 1, or no such rank."""
        start = first_place(step, count, rank, ranks)
        latents, prompts = zip(*(self.clips[self.epochs[place]] for place in range(start, start + count)), strict=True)
        return DrawnClips(torch.stack(latents).float(), prompts)


def _shown(shape: tuple[int, int, int, int]) -> str:
    channels, frames, height, width = shape
    return f"{frames} latent frames of {width}x{height} with {channels} channels"
