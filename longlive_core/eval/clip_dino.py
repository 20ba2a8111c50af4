"""CLIP and DINO: does a film follow its prompts, and does it stay the same? For films of any kind.

- CLIP score of a segment: mean cosine of its frames' features with its prompt's, times 100, as the LongLive paper gives
  it for each 10 s segment of an interactive film (CLIP: Radford et al., 2021).
- Consistency as in VBench (Huang et al., 2023): the mean over frames but the first of
  (max(0, cos to the first frame) + max(0, cos to the frame before)) / 2, with DINO's features for the subject and
  CLIP's for the background.
- Continuity at a switch: distance 1 - cos between neighbouring frames (`continuity.jumps`).

The models are the user's: a folder in the layout of Hugging Face transformers, or the name of one in its cache.

Shapes: N frames or texts, D numbers of a feature; features have length 1.
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

STRIDE = 8  # frames between those that are looked at: two a second at 16
BATCH = 16
_ROUNDING = 1e-6  # of the cosine of equal frames in float32; a ratio of such distances would be noise


class ImageEncoder(Protocol):
    def images(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 frames [H, W, 3] -> float32 [N, D]."""


class TextImageEncoder(ImageEncoder, Protocol):
    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Prompts -> float32 [N, D]."""

    def cut(self, text: str) -> bool:
        """Whether a prompt is longer than what the model reads of it."""


def _load(loader, name: str, what: str):
    """`loader(name)`. ValueError, with the reason, where this is not a model of the kind."""
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
    ) as error:  # the last: a file that is cut off
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"'{name}' is not {what} that can be loaded ({reason}); give a folder as Hugging Face "
            "transformers saves it, with config.json, weights and preprocessor"
        ) from error


def _load_model(loader, name: str, what: str, kinds: Sequence[str], device: str | torch.device):
    """The model, ready to run. ValueError unless its config names one of `kinds`, and all of its weights are there:
    transformers would put random numbers in their place."""
    from transformers import AutoConfig

    kind = _load(AutoConfig.from_pretrained, name, what).model_type
    if kind not in kinds:
        raise ValueError(f"'{name}' is a model of the kind '{kind}', not {what} ({', '.join(kinds)})")
    model, info = _load(lambda path: loader(path, output_loading_info=True), name, what)
    # The pooler is not used here, and DINO's published files have none.
    missing = sorted(key for key in info["missing_keys"] if "pooler" not in key)
    if missing:
        raise ValueError(f"'{name}' lacks {len(missing)} weights of {what}, such as '{missing[0]}'; download it again")
    return model.to(device).eval()


class ClipEncoder:
    """A CLIP model. ValueError where `name` is none."""

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
    """A DINO or DINOv2 model; its feature is the [CLS] token's. ValueError where `name` is none."""

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
    # Said outright, because a frame of three rows or columns would otherwise be guessed.
    return processor(images=list(frames), return_tensors="pt", input_data_format="channels_last")["pixel_values"].to(
        device
    )


def _unit(features: Tensor) -> np.ndarray:
    return F.normalize(features.float(), dim=-1).cpu().numpy()


@dataclass(frozen=True)
class SegmentFeatures:
    """One segment; None where it has too few frames, or the model was not given.

    Attributes:
        start: its first frame.
        frames: how many were looked at.
        clip_score: mean cosine with its prompt, times 100.
        prompt_cut: whether CLIP read only the beginning of the prompt.
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
    """A film: the means of its segments, and the same over the whole film against its first frame.

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
    if not 1 <= stride <= AFTER:  # or no pair of frames would lie around a switch
        raise ValueError(f"the stride of CLIP and DINO is {stride}; it is 1 to {AFTER} frames")


class FeatureMeter:
    """Takes a film's frames one by one, looks at every `stride`-th, and keeps its features only.

    ValueError where neither model is given, and for a stride not in 1 to 12.
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
            raise ValueError("give a CLIP model, a DINO model, or both")
        check_stride(stride)
        self._segments, self._clip, self._dino, self._stride = tuple(segments), clip, dino, stride
        self._waiting: list[np.ndarray] = []
        self._places: list[int] = []
        self._features: dict[str, list[np.ndarray]] = {"clip": [], "dino": []}

    def see(self, index: int, frame: np.ndarray) -> None:
        """The frame `index`, uint8 [H, W, 3]."""
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
        """ValueError for a film of which fewer than two frames were looked at."""
        self._encode()
        if len(self._places) < 2:
            raise ValueError(
                f"only {len(self._places)} frames of the film were looked at (every {self._stride}th); "
                "give a longer film or a smaller stride"
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
    """VBench's consistency of features [N, D] of length 1, in [0, 1]; None for fewer than two frames, or none."""
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
    """CLIP score, consistency and continuity of frames uint8 [H, W, 3]; see `FeatureMeter` for errors."""
    meter = FeatureMeter(segments, clip, dino, stride)
    for index, frame in enumerate(frames):
        meter.see(index, frame)
    return meter.result()


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None
