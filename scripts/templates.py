"""The shipped workflows as ComfyUI's template browser shows them: their order, file names and a sentence each.

The browser has a file's name for title and description, and its picture; so names carry the order, and for which model
a workflow is. Nothing but the standard library, so that whatever reads a workflow can ask here for its file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "workflows"
POCKET_SUFFIX, REAL_SUFFIX = "", "_1_3b"  # of the names by which programs here ask for a workflow
REAL_FROM = 20  # the numbers of those for LongLive's own files come after this


@dataclass(frozen=True)
class Template:
    """A workflow: the name that its description has here, the words of its file's name, and what it is for."""

    name: str
    words: str
    sentence: str

    @property
    def title(self) -> str:
        title = self.words.replace("_", " ").capitalize()
        return _SPELT.get(title, title)


_SPELT = {"Lora": "LoRA", "Int8": "INT8", "Comfyui loaders": "ComfyUI's loaders"}
TEMPLATES = (  # in their order
    Template("one_prompt", "start_here", "One prompt becomes a film: press Run and watch it grow."),
    Template("six_segment_story", "six_segment_story", "Six prompts over time make one story, without a seam."),
    Template("transitions_compared", "transitions_compared", "One change of prompt, three ways: recache, keep, cut."),
    Template("portrait", "portrait", "A film that is higher than wide."),
    Template("batch_of_seeds", "batch_of_seeds", "One timeline, four seeds, four films to choose from."),
    Template("resume", "resume", "Cancel it, go on, change the last prompt: only what is missing is rendered."),
    Template("extend", "extend", "A film goes on after another one, and its last frame becomes a picture."),
    Template("branch", "branch", "One beginning, two ways to go on."),
    Template("live", "live", "A film without end: type what happens next while it plays."),
    Template("lora", "lora", "A LoRA of your own between model and sampler."),
    Template("int8", "int8", "The model in 8 bits, for less memory."),
    Template("comfyui_loaders", "comfyui_loaders", "The model and the VAE from ComfyUI's own loaders."),
)
_PLACES = {template.name: (place, template) for place, template in enumerate(TEMPLATES, start=1)}
NAMES = [template.name + suffix for suffix in (POCKET_SUFFIX, REAL_SUFFIX) for template in TEMPLATES]


def template_of(name: str) -> Template:
    """Of the workflow by its name here, such as "live" or "live_1_3b"."""
    return _PLACES[name.removesuffix(REAL_SUFFIX)][1]


def file_name(name: str) -> str:
    """The name of its files, without their ending: "09_live_pocket", "29_live_longlive_1_3b"."""
    place, template = _PLACES[name.removesuffix(REAL_SUFFIX)]
    if name.endswith(REAL_SUFFIX):
        return f"{place + REAL_FROM:02d}_{template.words}_longlive{REAL_SUFFIX}"
    return f"{place:02d}_{template.words}_pocket"


def ui_path(name: str) -> Path:
    """What the browser opens."""
    return FOLDER / f"{file_name(name)}.json"


def api_path(name: str) -> Path:
    """What is posted to /prompt."""
    return FOLDER / "api" / f"{file_name(name)}.json"


def picture_path(name: str) -> Path:
    return FOLDER / f"{file_name(name)}.jpg"
