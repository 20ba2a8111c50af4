"""The shipped workflows, described once: `python scripts/workflows.py` writes workflows/*.json and api/*.json there.

This is the one list of them. Every description is written for the pocket model, where the tests run it through a
server, and for LongLive's own files (names end in _1_3b), where the tests hold it against /object_info only.
Standard library only. `--check` writes nothing and fails where a file is not what would be written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.workflow_graph import NOTE, Graph, Node, Output  # noqa: E402 - the path comes first

FOLDER = ROOT / "workflows"
ROW = 620  # pixels between films that stand below one another
COLUMNS = (40, 430, 1090, 1480)  # x of loader, timeline, sampler, saver


@dataclass(frozen=True)
class Source:
    """Where a workflow's model comes from, and what suits it.

    Attributes:
        suffix: of the workflows' names. load: the inputs of Load LongLive.
        size, portrait: (width, height) in pixels. seconds: of a short film. texts: timelines by what they are for.
        loaders: file names for ComfyUI's own loaders; without a text encoder the CLIP is Load LongLive's.
        lora: file name of a LoRA of the user's own. notes: Markdown by workflow, "" for all that have none.
    """

    suffix: str
    load: dict[str, str]
    size: tuple[int, int]
    portrait: tuple[int, int]
    seconds: float
    texts: dict[str, str]
    loaders: dict[str, str]
    lora: str
    notes: dict[str, str]


POCKET = Source(
    suffix="",
    load={"model": "pocket (built-in)", "lora": "none", "text_encoder": "from the model", "vae": "from the model"},
    size=(128, 80),
    portrait=(112, 128),
    seconds=5.0,
    texts={
        "one": "A red ball bounces on a meadow.",
        "story": "0s A yellow ball bounces in the snow.\n"
        "8s A yellow ball grows and shrinks in the snow.\n"
        "16s A blue ball grows and shrinks on a meadow.\n"
        "24s A blue star rests on a meadow.\n"
        "32s A red star bounces on a meadow.\n"
        "40s A red star moves right in the night sky.",
        "change": "0s A red ball bounces on a meadow.\n3s A blue star bounces in the snow. {TRANSITION}",
        "portrait": "A yellow ball bounces in the snow.",
        "seeds": "A yellow ball bounces in the snow.",
    },
    loaders={"unet": "pocket_dit.safetensors", "vae": "pocket_vae.safetensors"},
    lora="pocket_lora.safetensors",
    notes={
        "": "The **pocket model** is built in: coloured shapes at 128 x 80, on any CPU. It is there to try timelines "
        "with. The same workflow for LongLive's own files is the one whose name ends in `_1_3b`.",
        "comfyui_loaders": "Copy `pocket_dit.safetensors` and `pocket_vae.safetensors` from this pack's "
        "`longlive_core/pocket/weights` into `models/diffusion_models` and `models/vae`, then press **R**. The text "
        "encoder of the pocket model loads with Load LongLive only.",
        "lora": "Any LoRA loader goes between model and sampler. Choose a LoRA that was made for the model you load; "
        "none is shipped for the pocket model.",
        "int8": "The linear layers of the blocks in 8 bits take half the memory of bf16; the film changes slightly. "
        "LoRAs go before this node.",
        "portrait": "Width and height are the sampler's. The pocket model was trained at 128 x 80 only, so its shapes "
        "suffer here; LongLive's portrait size is 480 x 832.",
        "batch_of_seeds": "One timeline, four seeds, one run: model and prompts are loaded and encoded once. For more, "
        "set *control after generate* to `increment` and queue as often as you like.",
        "transitions_compared": "One change of prompt, three ways. **recache** goes on smoothly and follows the new "
        "prompt, **keep** leaves the memory as the old prompt made it, **cut** starts a new shot.",
    },
)

WHERE = (
    "- `longlive_base.pt` to `models/diffusion_models` and `lora.pt` to `models/loras`, from "
    "[Efficient-Large-Model/LongLive-1.3B](https://huggingface.co/Efficient-Large-Model/LongLive-1.3B)\n"
    "- `umt5_xxl_fp16.safetensors` to `models/text_encoders` and `wan_2.1_vae.safetensors` to `models/vae`, from "
    "[Comfy-Org/Wan_2.1_ComfyUI_repackaged]"
    "(https://huggingface.co/Comfy-Org/Wan_2.1_ComfyUI_repackaged/tree/main/split_files)\n\n"
    "Then press **R** and choose them in the loaders."
)
CONVERTED = "`python -m longlive_core convert longlive_base.pt longlive.safetensors --merge lora.pt`"

LONGLIVE = Source(
    suffix="_1_3b",
    load={"model": "longlive_base.pt", "lora": "lora.pt", "text_encoder": "umt5_xxl_fp16.safetensors",
          "vae": "wan_2.1_vae.safetensors"},
    size=(832, 480),
    portrait=(480, 832),
    seconds=20.0,
    texts={
        "one": "A red fox with a white-tipped tail walks through a snowy pine forest towards the camera, soft morning "
        "light, snow falling gently, cinematic, shallow depth of field.",
        "story": "* A red fox with a white-tipped tail in a snowy pine forest, soft morning light, cinematic, shallow "
        "depth of field.\n"
        "0s It walks slowly through the deep snow towards the camera.\n"
        "10s It stops, lifts its head and listens, its ears turning.\n"
        "20s It leaps high and dives head first into the snow.\n"
        "30s It comes up with snow on its face and shakes itself dry.\n"
        "40s It trots along a frozen stream between the pines.\n"
        "50s It curls up under a fallen tree and falls asleep.",
        "change": "0s A red fox with a white-tipped tail walks through a snowy pine forest, soft morning light, "
        "cinematic.\n"
        "10s A red fox with a white-tipped tail curls up and sleeps in a snowy pine forest, soft morning light, "
        "cinematic. {TRANSITION}",
        "portrait": "A young woman with curly dark hair in a yellow raincoat walks through a narrow lantern-lit alley "
        "at night, rain on the cobblestones, reflections, cinematic.",
        "seeds": "A small wooden sailing boat rides long waves on a dark green sea under heavy clouds, wide shot, "
        "cinematic.",
    },
    loaders={"unet": "longlive.safetensors", "clip": "umt5_xxl_fp16.safetensors", "vae": "wan_2.1_vae.safetensors"},
    lora="your_wan2.1_1.3b_lora.safetensors",
    notes={
        "": WHERE,
        "comfyui_loaders": f"{WHERE}\n\nComfyUI's own loader reads LongLive's model once it is converted: {CONVERTED}, "
        "run in this pack's folder. `longlive.safetensors` goes to `models/diffusion_models`.",
        "lora": f"{WHERE}\n\nThe second loader takes a LoRA of yours, made for Wan 2.1 **1.3B**. LongLive's own is "
        "chosen in Load LongLive and is merged into the model.",
        "int8": f"{WHERE}\n\nThe linear layers of the blocks in 8 bits take half the memory of bf16; the film changes "
        "slightly. LoRAs go before this node.",
        "transitions_compared": f"{WHERE}\n\n**recache** goes on smoothly and follows the new prompt, **keep** leaves "
        "the memory as the old prompt made it, **cut** starts a new shot.",
    },
)  # fmt: skip


def _load(graph: Graph, source: Source) -> Node:
    return graph.add("LongLiveLoad", (COLUMNS[0], 80), **source.load, dtype="auto")


def _note(graph: Graph, source: Source, name: str) -> None:
    text = source.notes.get(name, source.notes[""])
    graph.add(NOTE, (COLUMNS[0], 600), (330, 120 + len(text) // 2), text=text)


def _timeline(graph: Graph, clip: Output, text: str, seconds: float, row: int = 0) -> Node:
    return graph.add("LongLivePromptTimeline", (COLUMNS[1], 80 + row * ROW), clip=clip, text=text, duration=seconds,
                     fps=16.0)  # fmt: skip


def _film(graph: Graph, model: Output, vae: Output, timeline: Node, size: tuple[int, int], *, seed: int, prefix: str,
          row: int = 0) -> None:  # fmt: skip
    """A sampler and the node that saves its film."""
    sampler = graph.add(
        "LongLiveStreamSampler", (COLUMNS[2], 80 + row * ROW), model=model, vae=vae, timeline=timeline["TIMELINE"],
        seed=seed, width=size[0], height=size[1], steps=4, shift=5.0, window=12, sink=3, sink_policy="held", chunk=3,
        positions="auto",
    )  # fmt: skip
    graph.add("SaveVideo", (COLUMNS[3], 80 + row * ROW), video=sampler["VIDEO"], filename_prefix=f"longlive/{prefix}",
              format="auto", codec="auto")  # fmt: skip


def _simple(graph: Graph, source: Source, text: str, seconds: float, size: tuple[int, int], seed: int) -> None:
    load = _load(graph, source)
    timeline = _timeline(graph, load["CLIP"], source.texts[text], seconds)
    _film(graph, load["MODEL"], load["VAE"], timeline, size, seed=seed, prefix=graph.name)


def one_prompt(graph: Graph, source: Source) -> None:
    _simple(graph, source, "one", source.seconds, source.size, seed=1)


def six_segment_story(graph: Graph, source: Source) -> None:
    _simple(graph, source, "story", 48.0 if source is POCKET else 60.0, source.size, seed=7)


def portrait(graph: Graph, source: Source) -> None:
    _simple(graph, source, "portrait", source.seconds, source.portrait, seed=2)


def transitions_compared(graph: Graph, source: Source) -> None:
    """Three films of one timeline, below one another; only the word in braces differs."""
    load = _load(graph, source)
    for row, transition in enumerate(("recache", "keep", "cut")):
        text = source.texts["change"].replace("TRANSITION", transition)
        timeline = _timeline(graph, load["CLIP"], text, 6.0 if source is POCKET else 20.0, row)
        _film(graph, load["MODEL"], load["VAE"], timeline, source.size, seed=3, prefix=f"{graph.name}_{transition}",
              row=row)  # fmt: skip


def batch_of_seeds(graph: Graph, source: Source) -> None:
    """One timeline, four films."""
    load = _load(graph, source)
    timeline = _timeline(graph, load["CLIP"], source.texts["seeds"], 4.0 if source is POCKET else 10.0)
    for row, seed in enumerate((1, 2, 3, 4)):
        _film(graph, load["MODEL"], load["VAE"], timeline, source.size, seed=seed, prefix=f"{graph.name}_{seed}",
              row=row)  # fmt: skip


def comfyui_loaders(graph: Graph, source: Source) -> None:
    """MODEL and VAE from ComfyUI's own loaders; the CLIP too, where ComfyUI can load the text encoder."""
    x, files = COLUMNS[0], source.loaders
    unet = graph.add("UNETLoader", (x, 80), unet_name=files["unet"], weight_dtype="default")
    if "clip" in files:
        clip = graph.add("CLIPLoader", (x, 220), clip_name=files["clip"], type="wan", device="default")
    else:
        clip = graph.add("LongLiveLoad", (x, 220), **source.load, dtype="auto")
    vae = graph.add("VAELoader", (x, 480), (330, 60), vae_name=files["vae"])
    timeline = _timeline(graph, clip["CLIP"], source.texts["one"], source.seconds)
    _film(graph, unet["MODEL"], vae["VAE"], timeline, source.size, seed=1, prefix=graph.name)


def lora(graph: Graph, source: Source) -> None:
    """A LoRA of the user's own between model and sampler."""
    load = _load(graph, source)
    patched = graph.add("LoraLoaderModelOnly", (COLUMNS[0], 360), model=load["MODEL"], lora_name=source.lora,
                        strength_model=1.0)  # fmt: skip
    timeline = _timeline(graph, load["CLIP"], source.texts["one"], source.seconds)
    _film(graph, patched["MODEL"], load["VAE"], timeline, source.size, seed=1, prefix=graph.name)


def int8(graph: Graph, source: Source) -> None:
    """The blocks in 8 bits between model and sampler."""
    load = _load(graph, source)
    quantised = graph.add("LongLiveQuantizeINT8", (COLUMNS[0], 360), model=load["MODEL"])
    timeline = _timeline(graph, load["CLIP"], source.texts["one"], source.seconds)
    _film(graph, quantised["MODEL"], load["VAE"], timeline, source.size, seed=1, prefix=graph.name)


SOURCES = (POCKET, LONGLIVE)
DESCRIPTIONS: tuple[Callable[[Graph, Source], None], ...] = (
    one_prompt, six_segment_story, transitions_compared, comfyui_loaders, lora, portrait, batch_of_seeds, int8,
)  # fmt: skip


def graphs(source: Source) -> list[Graph]:
    """All workflows of a source; their names are the files' names without .json."""
    made = []
    for describe in DESCRIPTIONS:
        graph = Graph(describe.__name__ + source.suffix)
        describe(graph, source)
        _note(graph, source, describe.__name__)
        made.append(graph)
    return made


def files() -> dict[str, str]:
    """Content of every workflow file by its path below workflows/."""
    content = {}
    for graph in (graph for source in SOURCES for graph in graphs(source)):
        content[f"{graph.name}.json"] = _json(graph.ui())
        content[f"api/{graph.name}.json"] = _json(graph.api())
    return content


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the shipped workflows from their descriptions.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file differs")
    check = parser.parse_args().check
    wanted = files()
    there = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.json")}
    stale = sorted(name for name in there | set(wanted) if _content(name) != wanted.get(name))
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
