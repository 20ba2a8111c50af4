"""Start chunks: latents of a picture or a clip, or the chunks of another take, that a film begins with.

They are stored like any other chunk, and the film continues after them as after its own chunks: their latents go
through the clean pass, nothing is decoded and encoded again.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

import torch
from safetensors.torch import save
from torch import Tensor, nn

from ..cancelling import cancellable
from ..film.start_inputs import PIXELS, check_given
from ..timeline import NewSegment, Plan, shot_boundary, with_segments
from ..vae import encode
from ..words.wording import count
from .branch_points import check_rendered
from .errors import ChunkDamaged, TakeError
from .keys import Origin, StartChunks, start_key
from .manifest import Manifest
from .store import TakeStore


def clip_chunks(frames: int, chunk: int) -> int:
    """Return how many chunks a clip of `frames` frames fills, see `clip_latents`."""
    return max(1, (frames + 3) // (4 * chunk))


def clip_latents(vae: nn.Module, frames: Tensor, chunk: int, device, dtype: torch.dtype) -> Tensor:
    """Encode a picture or a clip as the first chunks of a film.

    Args:
        vae: on `device`, in `dtype`.
        frames: [T, H, W, 3] in [0, 1]. A single picture is repeated for one chunk. Of a clip, the last frames that fill
            whole chunks are used; in a shorter one the first frame is repeated at the start.
        chunk: latent frames per chunk.

    Returns:
        Normalised latents [1, 16, n * chunk, H / 8, W / 8], float32.
    """
    count = shot_boundary(clip_chunks(len(frames), chunk), chunk)
    still = frames[:1].expand(max(0, count - len(frames)), -1, -1, -1)
    pixels = torch.cat([still, frames])[-count:].movedim(-1, 0)[None]
    return encode(vae, (pixels * 2 - 1).to(device, dtype)).float()


def store_start_latents(store: TakeStore, latents: Tensor, origin: Origin, chunks: int) -> StartChunks:
    """Store latents as the start chunks of a film of `chunks` chunks.

    latents: normalised, [1, C, T, h, w], T a multiple of the chunk. They are stored in the run's dtype, as the clean
    pass reads them. Call this, and open the take, inside `store.locked()`. ValueError for another size or length.
    """
    size, (width, height) = origin.stream.chunk, origin.size
    frames, shape = latents.shape[2], (latents.shape[4] * PIXELS, latents.shape[3] * PIXELS)
    if latents.ndim != 5 or latents.shape[0] != 1 or shape != (width, height):
        raise ValueError(
            f"the film begins with latents of {shape[0]} x {shape[1]} pixels in a batch of "
            f"{latents.shape[0]}, but has {width} x {height}; choose the same size"
        )
    if not frames or frames % size:
        raise ValueError(
            f"the film begins with {count(frames, 'latent frame')}; it must be a multiple of the chunk, "
            f"{size}: give whole chunks, or the picture or clip itself"
        )
    check_given(frames // size, chunks)
    keys: list[str] = []
    for part in cancellable(latents.to("cpu", origin.torch_dtype).split(size, dim=2)):
        part = part.clone(memory_format=torch.contiguous_format)  # a VAE may return channels last
        keys.append(start_key(keys[-1] if keys else "", save({"latents": part})))
        if not _is_stored(store, keys[-1], tuple(part.shape[2:])):
            store.save_latents(keys[-1], part)
            store.sync(keys[-1])
    return StartChunks(tuple(keys))


def _is_stored(store: TakeStore, key: str, shape: tuple[int, ...]) -> bool:
    """Return whether a chunk is stored and intact."""
    with contextlib.suppress(ChunkDamaged):
        store.load_latents(key, shape)
        return True
    return False


def extended(
    store: TakeStore, take: str, chunks: int | None, plan: Plan, size: tuple[int, int]
) -> tuple[Plan, StartChunks]:
    """Return the plan that extends a take by `plan`, whose times count from the take's end, and its start chunks.

    chunks: number of the take's chunks to keep, from its start; None: all rendered ones. size: (width, height) of the
    new film in pixels. If the new plan begins with the last kept prompt, nothing changes at the seam: the film is
    simply longer. TakeError if the take cannot be extended like that.
    """
    manifest = store.read_manifest(take)
    rendered = store.rendered(manifest)
    check_rendered(manifest, rendered)
    chunks = rendered if chunks is None else chunks
    if not 1 <= chunks <= rendered:
        raise TakeError(
            f"take {take} has {count(rendered, 'chunk')} rendered, so it can be extended after chunk 1 to "
            f"{rendered}, not after {chunks}"
        )
    _check_like(manifest, size, plan.chunk)
    old = manifest.plan(plan.fps).resized(chunks)
    whole = replace(old, anchor=None).resized(chunks + plan.chunks)  # each text already includes its own anchor
    new = [
        NewSegment(chunks + segment.start_chunk, segment.text, segment.transition, segment.seed, segment.blend)
        for segment in plan.segments
    ]
    if new[0] == NewSegment(chunks, old.segments[-1].text):
        del new[0]
    whole = with_segments(whole, new)
    made_by = manifest.origin if chunks > manifest.given else None
    return whole, StartChunks(tuple(manifest.keys[:chunks]), made_by, manifest.given, manifest.vae_width)


def _check_like(manifest: Manifest, size: tuple[int, int], chunk: int) -> None:
    for what, theirs, ours in (
        ("size", tuple(manifest.origin["size"]), tuple(size)),
        ("chunk", manifest.origin["stream"]["chunk"], chunk),
    ):
        if theirs != ours:
            raise TakeError(
                f"take {manifest.id} has the {what} {_text(theirs)}, this run {_text(ours)}; choose the take's"
            )


def _text(value) -> str:
    return " x ".join(map(str, value)) if isinstance(value, tuple) else str(value)
