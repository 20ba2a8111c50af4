"""The shipped workflows: `python scripts/workflows.py` writes workflows/*.json and workflows/api/*.json.

Every description is written twice: for the pocket model, with which the tests run it in a server, and for LongLive's
own files (names end in _1_3b), which the tests only compare with /object_info. Standard library only. `--check` writes
nothing and fails if a file differs from what would be written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.templates import FOLDER, TEMPLATES, file_name, template_of  # noqa: E402 - the path comes first
from scripts.workflow_graph import NOTE, Graph, Node, Output  # noqa: E402 - the path comes first
from scripts.workflow_sources import LONGLIVE, POCKET, WorkflowSource  # noqa: E402

ROW = 1080  # pixels between films, from top to top
COLUMNS = (40, 430, 1090, 1480)  # x of loader, timeline, sampler, saver


def _load(graph: Graph, source: WorkflowSource) -> Node:
    return graph.add("LongLiveLoad", (COLUMNS[0], 80), **source.load, dtype="auto", weights="auto")


def _note(graph: Graph, source: WorkflowSource, name: str) -> None:
    text = f"**{template_of(name).sentence}**\n\n{source.notes.get(name, source.notes[''])}"
    graph.add(NOTE, (COLUMNS[0], 600), (330, 120 + len(text) // 2), text=text)


def _timeline(graph: Graph, clip: Output, text: str, seconds: float, row: int = 0) -> Node:
    return graph.add(
        "LongLivePromptTimeline", (COLUMNS[1], 80 + row * ROW), clip=clip, text=text, duration=seconds, fps=16.0
    )


def _sampler(
    graph: Graph,
    model: Output,
    vae: Output,
    timeline: Node,
    *,
    seed: int,
    size: str = "auto",
    row: int = 0,
    **start: Output,
) -> Node:
    """Add a sampler. start: the input its film begins with, such as take=node["TAKE"]."""
    return graph.add(
        "LongLiveStreamSampler",
        (COLUMNS[2], 80 + row * ROW),
        model=model,
        vae=vae,
        timeline=timeline["TIMELINE"],
        seed=seed,
        size=size,
        width=0,
        height=0,
        on_cancel="keep partial",
        **start,
        steps=4,
        shift=5.0,
        window=12,
        sink=3,
        sink_policy="held",
        chunk=3,
        positions="auto",
    )


def _save(graph: Graph, sampler: Node, prefix: str, row: int = 0) -> None:
    graph.add(
        "SaveVideo",
        (COLUMNS[3], 80 + row * ROW),
        video=sampler["VIDEO"],
        filename_prefix=f"longlive/{prefix}",
        format="auto",
        codec="auto",
    )


def _film(
    graph: Graph, model: Output, vae: Output, timeline: Node, *, seed: int, prefix: str, row: int = 0, **options: Any
) -> Node:
    """Add a sampler and the node that saves its film, and return the sampler. options: see `_sampler`."""
    sampler = _sampler(graph, model, vae, timeline, seed=seed, row=row, **options)
    _save(graph, sampler, prefix, row)
    return sampler


def _simple(graph: Graph, source: WorkflowSource, text: str, seconds: float, seed: int, **options: Any) -> None:
    load = _load(graph, source)
    timeline = _timeline(graph, load["CLIP"], source.texts[text], seconds)
    _film(graph, load["MODEL"], load["VAE"], timeline, seed=seed, prefix=graph.name, **options)


def one_prompt(graph: Graph, source: WorkflowSource) -> None:
    _simple(graph, source, "one", source.seconds, seed=1)


def six_segment_story(graph: Graph, source: WorkflowSource) -> None:
    _simple(graph, source, "story", 48.0 if source is POCKET else 60.0, seed=7)


def portrait(graph: Graph, source: WorkflowSource) -> None:
    _simple(graph, source, "portrait", source.seconds, seed=2, size="portrait")


def transitions_compared(graph: Graph, source: WorkflowSource) -> None:
    """Three films of one timeline, one below the other; only the transition in braces differs."""
    load = _load(graph, source)
    for row, transition in enumerate(("recache", "keep", "cut")):
        text = source.texts["change"].replace("TRANSITION", transition)
        timeline = _timeline(graph, load["CLIP"], text, 6.0 if source is POCKET else 20.0, row)
        _film(graph, load["MODEL"], load["VAE"], timeline, seed=3, prefix=f"{graph.name}_{transition}", row=row)


def batch_of_seeds(graph: Graph, source: WorkflowSource) -> None:
    """One timeline, four films."""
    load = _load(graph, source)
    timeline = _timeline(graph, load["CLIP"], source.texts["seeds"], 4.0 if source is POCKET else 10.0)
    for row, seed in enumerate((1, 2, 3, 4)):
        _film(graph, load["MODEL"], load["VAE"], timeline, seed=seed, prefix=f"{graph.name}_{seed}", row=row)


def comfyui_loaders(graph: Graph, source: WorkflowSource) -> None:
    """MODEL and VAE from ComfyUI's own loaders; the CLIP too, if ComfyUI can load the text encoder."""
    x, files = COLUMNS[0], source.loaders
    unet = graph.add("UNETLoader", (x, 80), unet_name=files["unet"], weight_dtype="default")
    if "clip" in files:
        clip = graph.add("CLIPLoader", (x, 220), clip_name=files["clip"], type="wan", device="default")
    else:
        clip = graph.add("LongLiveLoad", (x, 220), **source.load, dtype="auto", weights="auto")
    vae = graph.add("VAELoader", (x, 480), (330, 60), vae_name=files["vae"])
    timeline = _timeline(graph, clip["CLIP"], source.texts["one"], source.seconds)
    _film(graph, unet["MODEL"], vae["VAE"], timeline, seed=1, prefix=graph.name)


def lora(graph: Graph, source: WorkflowSource) -> None:
    """A LoRA between model and sampler."""
    load = _load(graph, source)
    patched = graph.add(
        "LoraLoaderModelOnly", (COLUMNS[0], 360), model=load["MODEL"], lora_name=source.lora, strength_model=1.0
    )
    timeline = _timeline(graph, load["CLIP"], source.texts["one"], source.seconds)
    _film(graph, patched["MODEL"], load["VAE"], timeline, seed=1, prefix=graph.name)


def int8(graph: Graph, source: WorkflowSource) -> None:
    """The blocks in 8 bits between model and sampler."""
    load = _load(graph, source)
    quantised = graph.add("LongLiveQuantizeINT8", (COLUMNS[0], 360), model=load["MODEL"])
    timeline = _timeline(graph, load["CLIP"], source.texts["one"], source.seconds)
    _film(graph, quantised["MODEL"], load["VAE"], timeline, seed=1, prefix=graph.name)


def resume(graph: Graph, source: WorkflowSource) -> None:
    """One film to cancel, resume and edit; the note says how."""
    _simple(graph, source, "resume", 24.0 if source is POCKET else 30.0, seed=5)


def extend(graph: Graph, source: WorkflowSource) -> None:
    """A film, one that extends it, and its last frame as a picture."""
    load = _load(graph, source)
    first = _timeline(graph, load["CLIP"], source.texts["begin"], source.seconds)
    begun = _sampler(graph, load["MODEL"], load["VAE"], first, seed=8)
    then = _timeline(graph, load["CLIP"], source.texts["onward"], source.seconds, 1)
    longer = _film(graph, load["MODEL"], load["VAE"], then, seed=8, prefix=graph.name, row=1, take=begun["TAKE"])
    frames = graph.add(
        "LongLiveTakeFrames", (COLUMNS[2], 80 + 2 * ROW), take=longer["TAKE"], first=-16, frames=16, vae=load["VAE"]
    )
    graph.add(
        "SaveImage",
        (COLUMNS[3], 80 + 2 * ROW),
        images=frames["LAST FRAME"],
        filename_prefix=f"longlive/{graph.name}_last",
    )


def branch(graph: Graph, source: WorkflowSource) -> None:
    """One beginning, two films that continue it in different ways."""
    load = _load(graph, source)
    first = _timeline(graph, load["CLIP"], source.texts["begin"], source.seconds)
    begun = _sampler(graph, load["MODEL"], load["VAE"], first, seed=8)
    kept = graph.add("LongLiveBranchTake", (COLUMNS[3], 80), take=begun["TAKE"], at=source.branch)
    for row, way in enumerate(("left", "right"), start=1):
        timeline = _timeline(graph, load["CLIP"], source.texts[way], source.seconds, row)
        _film(
            graph,
            load["MODEL"],
            load["VAE"],
            timeline,
            seed=8,
            prefix=f"{graph.name}_{row}",
            row=row,
            take=kept["TAKE"],
        )


def live(graph: Graph, source: WorkflowSource) -> None:
    """A film without end, steered while it is rendered."""
    _simple(graph, source, "live", 0.0, seed=6)


SOURCES = (POCKET, LONGLIVE)
DESCRIPTIONS: dict[str, Callable[[Graph, WorkflowSource], None]] = {
    describe.__name__: describe
    for describe in (
        one_prompt,
        six_segment_story,
        transitions_compared,
        comfyui_loaders,
        lora,
        portrait,
        batch_of_seeds,
        int8,
        resume,
        extend,
        branch,
        live,
    )
}


def graphs(source: WorkflowSource) -> list[Graph]:
    """Return all workflows of a source, in the templates' order; `file_name` gives the names of their files."""
    made = []
    for template in TEMPLATES:
        graph = Graph(template.name + source.suffix)
        DESCRIPTIONS[template.name](graph, source)
        _note(graph, source, template.name)
        made.append(graph)
    return made


def files() -> dict[str, str]:
    """Return the content of every workflow file, by its path below workflows/."""
    content = {}
    for graph in (graph for source in SOURCES for graph in graphs(source)):
        content[f"{file_name(graph.name)}.json"] = _json(graph.ui())
        content[f"api/{file_name(graph.name)}.json"] = _json(graph.api())
    return content


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the shipped workflows from their descriptions.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file differs")
    check = parser.parse_args().check
    wanted = files()
    existing = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.json")}
    stale = sorted(name for name in existing | set(wanted) if _content(name) != wanted.get(name))
    for name in stale:
        print(f"{'differs' if check else 'removed' if name not in wanted else 'written'}: workflows/{name}")
        if not check:
            _write(name, wanted.get(name))
    return int(check and bool(stale))


def _content(name: str) -> str | None:
    path = FOLDER / name
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _write(name: str, content: str | None) -> None:
    path = FOLDER / name
    if content is None:
        path.unlink()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    sys.exit(main())
