"""CLIP and DINO scores for any film: does it follow its prompts, and does it stay consistent?

- CLIP score of a segment: mean cosine of its frames' features with its prompt's, times 100, as the LongLive paper
  reports it for each 10 s segment of an interactive film (CLIP: Radford et al., 2021).
- Consistency as in VBench (Huang et al., 2023): the mean over all frames but the first of
  (max(0, cos to the first frame) + max(0, cos to the frame before)) / 2, with DINO's features for the subject and
  CLIP's for the background.
- Continuity at a switch: distance 1 - cos between neighbouring frames (`continuity.jumps`).

The user provides the models: a folder in the layout of Hugging Face transformers, or the name of one in its cache.

Shapes: N frames or texts, D feature dimensions; features have length 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .continuity import AFTER, Jump, jumps
from .film_file import FilmSegment, check_starts

STRIDE = 8  # frames between those that are encoded: two per second at 16 fps
BATCH = 16
_ROUNDING = 1e-6  # of the cosine of equal frames in float32; a ratio of such distances would be noise


class ImageEncoder(Protocol):
    def images(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Encode uint8 frames [H, W, 3] as float32 [N, D]."""


class TextImageEncoder(ImageEncoder, Protocol):
    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Encode prompts as float32 [N, D]."""

    def cut(self, text: str) -> bool:
        """Return whether the model truncates this prompt."""


def _load(loader, name: str, what: str):
    """Return `loader(name)`. ValueError, with the reason, if this is not a model of the kind."""
    from safetensors import SafetensorError

    try:
        return loader(name)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        AttributeError,
        ImportError,
        SafetensorError,
    ) as error:  # SafetensorError: a truncated file
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"'{name}' is not {what} that can be loaded ({reason}); pass a folder as Hugging Face "
            "transformers saves it, with config.json, weights and preprocessor"
        ) from error


def _load_model(loader, name: str, what: str, kinds: Sequence[str], device: str | torch.device):
    """Load a model for inference.

    ValueError unless its config names one of `kinds` and no weight is missing: transformers would fill missing ones
    with random numbers.
    """
    from transformers import AutoConfig

    kind = _load(AutoConfig.from_pretrained, name, what).model_type
    if kind not in kinds:
        raise ValueError(f"'{name}' is a model of the kind '{kind}', not {what} ({', '.join(kinds)})")
    model, info = _load(lambda path: loader(path, output_loading_info=True), name, what)
    # The pooler is not used, and DINO's published files have none.
    missing = sorted(key for key in info["missing_keys"] if "pooler" not in key)
    if missing:
        raise ValueError(f"'{name}' lacks {len(missing)} weights of {what}, such as '{missing[0]}'; download it again")
    return model.to(device).eval()


class ClipEncoder:
    """A CLIP model. ValueError if `name` is not one."""

    def __init__(self, name: str, device: str | torch.device = "cpu"):
        from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

        self._model = _load_model(CLIPModel.from_pretrained, name, "a CLIP model", ("clip",), device)
        self._processor = _load(AutoImageProcessor.from_pretrained, name, "a CLIP model")
        self._tokenizer = _load(AutoTokenizer.from_pretrained, name, "a CLIP model")
        self._length = self._model.config.text_config.max_position_embeddings

    @torch.no_grad()
    def images(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        model = self._model
        seen = model.vision_model(pixel_values=_pixels(self._processor, frames, model.device))
        return _unit(model.visual_projection(seen.pooler_output))

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> np.ndarray:
        tokens = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=self._length, return_tensors="pt"
        ).to(self._model.device)
        read = self._model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        return _unit(self._model.text_projection(read.pooler_output))

    def cut(self, text: str) -> bool:
        return len(self._tokenizer(text, truncation=False, verbose=False)["input_ids"]) > self._length


class DinoEncoder:
    """A DINO or DINOv2 model; its feature is the [CLS] token's. ValueError if `name` is not one."""

    KINDS = ("vit", "dinov2", "dinov2_with_registers", "dinov3_vit")  # the first DINO is a plain ViT

    def __init__(self, name: str, device: str | torch.device = "cpu"):
        from transformers import AutoImageProcessor, AutoModel

        self._model = _load_model(AutoModel.from_pretrained, name, "a DINO model", self.KINDS, device)
        self._processor = _load(AutoImageProcessor.from_pretrained, name, "a DINO model")

    @torch.no_grad()
    def images(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        pixels = _pixels(self._processor, frames, self._model.device)
        return _unit(self._model(pixel_values=pixels).last_hidden_state[:, 0])


def _pixels(processor, frames: Sequence[np.ndarray], device: torch.device) -> Tensor:
    # Explicit, because transformers guesses the layout of frames of three rows or columns.
    return processor(images=list(frames), return_tensors="pt", input_data_format="channels_last")["pixel_values"].to(
        device
    )


def _unit(features: Tensor) -> np.ndarray:
    return F.normalize(features.float(), dim=-1).cpu().numpy()


@dataclass(frozen=True)
class SegmentFeatures:
    """Scores of one segment; None if it has too few frames, or the model was not given.

    Attributes:
        start: its first frame.
        frames: number of frames encoded.
        clip_score: mean cosine with its prompt, times 100.
        prompt_cut: whether CLIP truncated the prompt.
        subject_consistency: by DINO.
        background_consistency: by CLIP.
    """

    start: int
    frames: int
    clip_score: float | None
    prompt_cut: bool | None
    subject_consistency: float | None
    background_consistency: float | None


@dataclass(frozen=True)
class FeatureScore:
    """Scores of a film: the means of its segments, and consistency over the whole film against its first frame.

    clip_switches, dino_switches: continuity in features.
    """

    clip_score: float | None
    subject_consistency: float | None
    background_consistency: float | None
    film_subject_consistency: float | None
    film_background_consistency: float | None
    segments: tuple[SegmentFeatures, ...]
    clip_switches: tuple[Jump, ...]
    dino_switches: tuple[Jump, ...]


def check_stride(stride: int) -> None:
    if not 1 <= stride <= AFTER:  # otherwise no pair of frames is near a switch
        raise ValueError(f"the stride of CLIP and DINO is {stride}; it must be 1 to {AFTER} frames")


class FeatureMeter:
    """Takes a film's frames one by one, encodes every `stride`-th, and keeps only features.

    ValueError if neither model is given, or the stride is not in 1 to 12.
    """

    def __init__(
        self,
        segments: Sequence[FilmSegment],
        clip: TextImageEncoder | None,
        dino: ImageEncoder | None,
        stride: int = STRIDE,
    ):
        check_starts([segment.start for segment in segments])
        if clip is None and dino is None:
            raise ValueError("pass a CLIP model, a DINO model, or both")
        check_stride(stride)
        self._segments, self._clip, self._dino, self._stride = tuple(segments), clip, dino, stride
        self._waiting: list[np.ndarray] = []
        self._places: list[int] = []
        self._features: dict[str, list[np.ndarray]] = {"clip": [], "dino": []}

    def see(self, index: int, frame: np.ndarray) -> None:
        """Take the frame `index`, uint8 [H, W, 3]."""
        if index % self._stride == 0:
            self._places.append(index)
            self._waiting.append(frame)
            if len(self._waiting) == BATCH:
                self._encode()

    def _encode(self) -> None:
        if self._waiting:
            for name, model in (("clip", self._clip), ("dino", self._dino)):
                if model is not None:
                    self._features[name].append(model.images(self._waiting))
            self._waiting = []

    def result(self) -> FeatureScore:
        """Return the film's scores. ValueError if fewer than two frames were encoded."""
        self._encode()
        if len(self._places) < 2:
            raise ValueError(
                f"only {len(self._places)} frames of the film were encoded (every {self._stride}th); "
                "use a longer film or a smaller stride"
            )
        clip, dino = (np.concatenate(parts) if parts else None for parts in self._features.values())
        segments = self._segment_scores(clip, dino)
        means = {
            name: _mean([value for value in (getattr(s, name) for s in segments) if value is not None])
            for name in ("clip_score", "subject_consistency", "background_consistency")
        }
        switches = [segment.start for segment in self._segments[1:] if segment.start <= self._places[-1]]
        return FeatureScore(
            **means,
            film_subject_consistency=consistency(dino),
            film_background_consistency=consistency(clip),
            segments=tuple(segments),
            clip_switches=tuple(self._jumps(clip, switches)),
            dino_switches=tuple(self._jumps(dino, switches)),
        )

    def _segment_scores(self, clip: np.ndarray | None, dino: np.ndarray | None) -> list[SegmentFeatures]:
        places, scores = np.array(self._places), []
        ends = [*(segment.start for segment in self._segments[1:]), places[-1] + 1]
        for segment, end in zip(self._segments, ends, strict=True):
            own = (places >= segment.start) & (places < end)
            score = None
            if self._clip is not None and own.any():
                score = float((clip[own] @ self._clip.texts([segment.text])[0]).mean() * 100)
            scores.append(
                SegmentFeatures(
                    segment.start,
                    int(own.sum()),
                    score,
                    None if self._clip is None else self._clip.cut(segment.text),
                    None if dino is None else consistency(dino[own]),
                    None if clip is None else consistency(clip[own]),
                )
            )
        return scores

    def _jumps(self, features: np.ndarray | None, switches: Sequence[int]) -> list[Jump]:
        if features is None:
            return []
        apart = [1 - float(one @ two) for one, two in pairwise(features)]
        apart = [distance if distance > _ROUNDING else 0.0 for distance in apart]
        return jumps(self._places[1:], apart, switches)


def consistency(features: np.ndarray | None) -> float | None:
    """Return VBench's consistency of features [N, D] of length 1, in [0, 1]; None for fewer than two frames."""
    if features is None or len(features) < 2:
        return None
    to_first, to_before = features[1:] @ features[0], (features[1:] * features[:-1]).sum(axis=1)
    return float(np.mean((np.maximum(to_first, 0) + np.maximum(to_before, 0)) / 2))


def evaluate_features(
    frames: Iterable[np.ndarray],
    segments: Sequence[FilmSegment],
    clip: TextImageEncoder | None = None,
    dino: ImageEncoder | None = None,
    stride: int = STRIDE,
) -> FeatureScore:
    """Measure CLIP score, consistency and continuity of frames uint8 [H, W, 3]; see `FeatureMeter` for errors."""
    meter = FeatureMeter(segments, clip, dino, stride)
    for index, frame in enumerate(frames):
        meter.see(index, frame)
    return meter.result()


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None
