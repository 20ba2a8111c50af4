"""The shipped workflows in ComfyUI's template browser: their order, file names and a sentence each.

The browser shows a file's name as title and description, and its picture, so the names contain the order and the model.
Standard library only, so that any program can import this to find a workflow's file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "workflows"
POCKET_SUFFIX, REAL_SUFFIX = "", "_1_3b"  # suffixes of the workflows' names in our scripts
REAL_FROM = 20  # added to the numbers of workflows for LongLive's own files


@dataclass(frozen=True)
class Template:
    """A workflow: its name in our scripts, the words in its file's name, and a sentence about its purpose."""

    name: str
    words: str
    sentence: str

    @property
    def title(self) -> str:
        title = self.words.replace("_", " ").capitalize()
        return _SPELT.get(title, title)


_SPELT = {"Lora": "LoRA", "Int8": "INT8", "Comfyui loaders": "ComfyUI's loaders"}
TEMPLATES = (  # in the browser's order
    Template("one_prompt", "start_here", "One prompt becomes a film: press Run and watch it grow."),
    Template("six_segment_story", "six_segment_story", "Six prompts over time make one story, without a seam."),
    Template("transitions_compared", "transitions_compared", "One prompt switch, three ways: recache, keep, cut."),
    Template("portrait", "portrait", "A film that is taller than wide."),
    Template("batch_of_seeds", "batch_of_seeds", "One timeline, four seeds, four films to choose from."),
    Template("resume", "resume", "Cancel, resume, change the last prompt: only missing chunks are rendered."),
    Template("extend", "extend", "Extend a film, and save its last frame as a picture."),
    Template("branch", "branch", "One beginning, two ways to continue."),
    Template("live", "live", "A film without end: type what happens next while it plays."),
    Template("lora", "lora", "A LoRA of your own between model and sampler."),
    Template("int8", "int8", "The model in 8 bits, for less memory."),
    Template("comfyui_loaders", "comfyui_loaders", "The model and the VAE from ComfyUI's own loaders."),
)
_PLACES = {template.name: (place, template) for place, template in enumerate(TEMPLATES, start=1)}
NAMES = [template.name + suffix for suffix in (POCKET_SUFFIX, REAL_SUFFIX) for template in TEMPLATES]


def template_of(name: str) -> Template:
    """Return a workflow's template by its name in our scripts, such as "live" or "live_1_3b"."""
    return _PLACES[name.removesuffix(REAL_SUFFIX)][1]


def file_name(name: str) -> str:
    """Return the name of a workflow's files without extension: "09_live_pocket", "29_live_longlive_1_3b"."""
    place, template = _PLACES[name.removesuffix(REAL_SUFFIX)]
    if name.endswith(REAL_SUFFIX):
        return f"{place + REAL_FROM:02d}_{template.words}_longlive{REAL_SUFFIX}"
    return f"{place:02d}_{template.words}_pocket"


def ui_path(name: str) -> Path:
    """Return the file that the browser opens."""
    return FOLDER / f"{file_name(name)}.json"


def api_path(name: str) -> Path:
    """Return the file to post to /prompt."""
    return FOLDER / "api" / f"{file_name(name)}.json"


def picture_path(name: str) -> Path:
    return FOLDER / f"{file_name(name)}.jpg"
