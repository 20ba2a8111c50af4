"""Inspect the pocket model: `python -m longlive_core.pocket.look --out FOLDER` renders contact sheets as PNG.

Each row is a film, with frames from left to right in time: the twenty held-out prompts of `toybox/stories.py`, and its
story with recached prompt switches, one row per segment.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..run.pipeline import Pipeline
from ..toybox import HEIGHT, WIDTH
from ..toybox.stories import HELD_OUT_PROMPTS, STORY, STORY_SECONDS
from .sampling import render_prompts, render_timeline

CAPTION_HEIGHT = 12


def row(frames: np.ndarray, caption: str, columns: int) -> Image.Image:
    """Place `columns` evenly spaced frames side by side under a caption."""
    chosen = frames[np.linspace(0, len(frames) - 1, columns).round().astype(int)]
    image = Image.new("RGB", (columns * WIDTH, HEIGHT + CAPTION_HEIGHT), "white")
    image.paste(Image.fromarray(np.concatenate(list(chosen), axis=1)), (0, CAPTION_HEIGHT))
    ImageDraw.Draw(image).text((2, 0), caption, fill="black")
    return image


def sheet(rows: list[Image.Image], path: Path) -> None:
    """Write rows as one picture."""
    image = Image.new("RGB", (rows[0].width, sum(r.height for r in rows)))
    for place, part in enumerate(rows):
        image.paste(part, (0, place * part.height))
    image.save(path)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Render contact sheets of the pocket model.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--chunks", type=int, default=8, help="length of the single-prompt films")
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--only", choices=("prompts", "story"))
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    pipeline = Pipeline.load("pocket")
    if options.only != "story":
        seeds = [options.seed + number for number in range(len(HELD_OUT_PROMPTS))]
        films = render_prompts(pipeline, [(0, list(HELD_OUT_PROMPTS))], options.chunks, seeds)
        captions = [f"{number}: {text}" for number, text in enumerate(HELD_OUT_PROMPTS, start=1)]
        rows = [row(film, text, options.columns) for film, text in zip(films, captions, strict=True)]
        for first in range(0, len(rows), 10):
            sheet(rows[first : first + 10], options.out / f"prompts_{first + 1:02d}.png")
    if options.only != "prompts":
        frames, segments = render_timeline(pipeline, STORY, STORY_SECONDS, options.seed)
        ends = [start for start, _ in segments[1:]] + [len(frames)]
        rows = [
            row(frames[start:end], f"frame {start}: {text}", options.columns)
            for (start, text), end in zip(segments, ends, strict=True)
        ]
        sheet(rows, options.out / "story.png")


if __name__ == "__main__":
    main()
