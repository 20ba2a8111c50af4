"""Evaluation of films: adherence, consistency, continuity at a switch, drift (docs/evaluation.md).

- Measures: `adherence` (the toybox's judge), `clip_dino` (CLIP and DINO), `drift`, `continuity`.
- Arrays: `evaluate_toybox`, `evaluate_drift`, `clip_dino.evaluate_features`.
- Files: `film_file` (`open_film`), `evaluate` (`evaluate_film`), `report` (JSON, CSV), `plots` (PNG).
- Confidence intervals: `bootstrap` (`bootstrap_mean`, `bootstrap_difference`).
"""

from .adherence import ToyboxScore, evaluate_toybox
from .bootstrap import Interval, bootstrap_difference, bootstrap_mean
from .drift import Drift, evaluate_drift
from .evaluate import EvaluationSettings, FilmReport, evaluate_film
from .film_file import Film, FilmSegment, open_film

__all__ = [
    "Drift",
    "Film",
    "FilmReport",
    "Interval",
    "FilmSegment",
    "EvaluationSettings",
    "ToyboxScore",
    "bootstrap_difference",
    "bootstrap_mean",
    "evaluate_drift",
    "evaluate_film",
    "evaluate_toybox",
    "open_film",
]
