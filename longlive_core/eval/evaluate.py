"""Evaluate a film: one pass over its frames feeds all measures, so memory does not grow with its length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..toybox import FPS, HEIGHT, WIDTH
from .adherence import ToyboxMeter, ToyboxScore, check_judge_stride, expected_of
from .clip_dino import FeatureMeter, FeatureScore, ImageEncoder, TextImageEncoder, check_stride
from .drift import Drift, DriftMeter
from .film_file import Film


@dataclass(frozen=True)
class EvaluationSettings:
    """What to measure, and how.

    Attributes:
        toybox: whether to use the toybox's judge.
        judge_stride: frames between those that are judged.
        feature_stride: frames between those that CLIP and DINO encode.

    ValueError for invalid strides.
    """

    toybox: bool = False
    judge_stride: int = 4
    feature_stride: int = 8

    def __post_init__(self) -> None:
        check_judge_stride(self.judge_stride)
        check_stride(self.feature_stride)


@dataclass(frozen=True)
class FilmReport:
    """Results of a film; None for measures that were not requested."""

    name: str
    film: Film
    drift: Drift
    toybox: ToyboxScore | None = None
    features: FeatureScore | None = None

    @property
    def seconds(self) -> float:
        return self.drift.frames / self.film.fps


def check_film(film: Film, settings: EvaluationSettings) -> None:
    """Raise ValueError for faults that can be detected before the film is decoded."""
    unfit = film.size != (WIDTH, HEIGHT) or film.fps != FPS
    if settings.toybox and unfit:
        raise ValueError(
            f"'{film.path}' is {film.size[0]} x {film.size[1]} at {film.fps:g} frames per second; the judge "
            f"of the toybox reads {WIDTH} x {HEIGHT} at {FPS}. Leave --toybox out for "
            "other films"
        )
    try:
        if settings.toybox:
            expected_of(film.segments)
        if film.claimed:
            drift_meter(film).check_length(film.claimed)
    except ValueError as error:
        raise ValueError(f"'{film.path}': {error}") from error


def drift_meter(film: Film) -> DriftMeter:
    return DriftMeter([segment.start for segment in film.segments], film.fps)


def evaluate_film(
    film: Film,
    settings: EvaluationSettings,
    name: str,
    clip: TextImageEncoder | None = None,
    dino: ImageEncoder | None = None,
    on_frame: Callable[[], object] | None = None,
) -> FilmReport:
    """Measure a film. on_frame: called after each frame. ValueError if the film is too short or damaged."""
    check_film(film, settings)
    meters = {"drift": drift_meter(film)}
    if settings.toybox:
        meters["toybox"] = ToyboxMeter(expected_of(film.segments), settings.judge_stride)
    if clip is not None or dino is not None:
        meters["features"] = FeatureMeter(film.segments, clip, dino, settings.feature_stride)
    for index, frame in enumerate(film.frames()):
        for meter in meters.values():
            meter.see(index, frame)
        if on_frame is not None:
            on_frame()
    try:
        return FilmReport(name, film, **{name: meter.result() for name, meter in meters.items()})
    except ValueError as error:
        raise ValueError(f"'{film.path}': {error}") from error
