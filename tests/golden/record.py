"""Renders the matrix in all its ways, and records the results in four parts (README.md)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from longlive_core.timeline import plan_text

from . import reading
from .command_line import CommandLine, own_place
from .host import Nodes
from .matrix import FILMS, IN_FULL, SHORT, STORY, Film
from .models import numbers, write_models, write_picture

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = Path(__file__).parent / "expected"
PARTS = ("names", "numbers", "texts", "workflows")
ORDINARY = Film(SHORT, 2.0, ways=())
LONG = 60  # characters of a prompt or a note that are written down
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?: [kMGT]?B)?")


class Record:
    """Render the matrix; return names, numbers, texts and workflows, by film and way. folder: for its files."""

    def __init__(self, folder: Path):
        self.names: dict[str, Any] = {}
        self.numbers: dict[str, Any] = {}
        self.texts: dict[str, Any] = {}
        self.workflows: dict[str, Any] = {}
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def make(self) -> Record:
        paths = write_models(self.folder)
        with own_place(self.folder / "cache"):
            commands = CommandLine(paths, self.folder / "commands")
            paths["int8"] = self.folder / "int8.safetensors"
            self.texts["convert --int8"] = commands.run("convert", str(paths["model"]), str(paths["int8"]), "--int8")
            self._estimates(commands)  # before anything is measured
            for name, film in FILMS.items():
                self._on_command_line(commands, name, film)
            self._takes(commands)
            with Nodes.running(paths, self.folder / "nodes") as nodes:
                for name, film in FILMS.items():
                    if "nodes" in film.ways:
                        self._by_nodes(name, nodes.render(name, film), nodes.store(name))
                for way in (_fps, _begins_with_latents, _cancelled, _branched, _prompt_in_between, _finished):
                    way(self, nodes)
                self._workflows(nodes)
        return self

    def as_json(self) -> dict[str, Any]:
        """By part; as it comes back from a file."""
        return json.loads(json.dumps({part: getattr(self, part) for part in PARTS}))

    # --- the command line

    def _estimates(self, commands: CommandLine) -> None:
        """Record films that are not rendered here, also large ones."""
        for name, settings in {
            "small": {},
            "large": {"width": 832, "height": 480},
            "portrait": {"width": 480, "height": 832, "window": 12},
            "whole past": {"width": 832, "height": 480, "window": -1, "sink": 0},
        }.items():
            film = Film(STORY, 20.0, settings)
            stored = ("--takes", str(commands.folder / "none")) if name != "portrait" else ()
            self._say(f"estimate: {name}", commands.run("render", STORY, "--dry-run", *commands.flags(film), *stored))

    def _on_command_line(self, commands: CommandLine, name: str, film: Film) -> None:
        commands.paths.setdefault("picture", write_picture(self.folder / "picture.png", (48, 32)))
        if "film" in film.ways:
            self._say(f"{name}: film", commands.render(name, film, takes=False))
            self._film(name, "film", commands.film(name), film.numbers)
        if "stored" in film.ways:
            said = commands.render(name, film)
            if "--start" not in film.flags:
                self._say(f"{name}: stored", said)
            self._film(name, "stored", commands.film(name), film.numbers)
            self._takes_in(name, "stored", commands.store(name), film.numbers)

    def _takes(self, commands: CommandLine) -> None:
        """What one folder of takes sees in its life."""
        name, tick = "life of a folder", ORDINARY
        changed = Film(SHORT.replace("star", "box"), 2.0)
        for step, film, more in (
            ("rendered", tick, ()),
            ("again", tick, ()),
            ("second prompt changed", changed, ()),
            ("longer", Film(SHORT, 2.75), ()),
            ("another seed", Film(SHORT, 2.0, {"seed": 4}), ()),
            ("another window", Film(SHORT, 2.0, {"window": 9}), ()),
        ):
            self._say(f"{name}: {step}", commands.render(name, film, *more))
        first = reading.takes_of(commands.store(name))[0]
        extending = Film("0s A star.\n1.5s A box.", 2.0)
        self._say(f"{name}: extended", commands.render(name, extending, "--extend", first))
        self._film(name, "extended", commands.film(name))
        branching = Film("0s A box. {cut}", 2.0)
        self._say(f"{name}: branched", commands.render(name, branching, "--extend", first, "--branch-at", "2c"))
        self._film(name, "branched", commands.film(name))
        said = commands.run(
            "render", STORY, "--dry-run", "--takes", str(commands.store(name)), *commands.flags(Film(STORY, 6.0))
        )
        # Of the disk it says what the last film's video took, which is the encoder's.
        self._say(f"{name}: estimate", [line for line in said if "disk:" not in line and "(film" not in line])
        self._takes_in(name, "stored", commands.store(name))
        joined = commands.film("joined")
        joined.parent.mkdir()
        takes = ("--takes", str(commands.store(name)))
        self._say(f"{name}: takes join", commands.run("takes", "join", first, "-o", str(joined), *takes))
        self._film(name, "joined", joined, False)
        for action in (("show", first), ("verify",)):
            self._say(f"{name}: takes {action[0]}", commands.run("takes", *action, *takes))

    # --- what is written down

    def _by_nodes(self, name: str, made: SimpleNamespace, store: Path, numbers: bool = True) -> None:
        self._film(name, "nodes", made.film, numbers)
        self._takes_in(name, "nodes", store, numbers)
        self.names[name]["nodes"]["report"] = _without_words(made.report)
        self._say(f"{name}: nodes", [*made.shown, *made.summary, *map(str, made.report["hints"])])

    def _film(self, name: str, way: str, path: Path, numbers: bool = True) -> None:
        film = reading.names_of_film(path)
        if name not in IN_FULL:
            film["tags"] = {tag: _digest(value) for tag, value in film["tags"].items()}
        self.names.setdefault(name, {}).setdefault(way, {})["film"] = self._new(name, way, film)
        if numbers:
            self.numbers.setdefault(name, {})[f"{way}: frames"] = reading.numbers_of_film(path)

    def _takes_in(self, name: str, way: str, store: Path, numbers: bool = True) -> None:
        entry, picture = self.names.setdefault(name, {}).setdefault(way, {}), name == "from a picture"
        takes = [reading.manifest_of(store, take) for take in reading.takes_of(store)]
        chunks = list(dict.fromkeys(key for take in takes for shot in take["shots"] for key in shot))
        if numbers:
            latents = [reading.numbers_of_chunk(store, key) for key in chunks]
            self.numbers.setdefault(name, {})[f"{way}: latents"] = latents
        files = reading.files_of(store)
        if picture:  # the keys follow from its latents, which this machine's VAE encoded
            files = [str(len(files))]
            takes = [{**take, "id": "of a picture", "shots": [len(shot) for shot in take["shots"]]} for take in takes]
        if name not in IN_FULL:
            takes = [
                {
                    "id": take["id"],
                    "model": take["origin"]["model"],
                    "unit": take["unit"],
                    "prompts": len(take["segments"]),
                    "all": _digest(take),
                }
                for take in takes
            ]
        entry["takes"] = self._new(name, f"{way} takes", takes)
        entry["files"] = [len(files), _digest(files)]

    def _new(self, name: str, way: str, value: Any) -> Any:
        """A value, or where an earlier way of the same film had it too, the name of that."""
        kept = self.__dict__.setdefault("_kept", {})
        for other, known in kept.setdefault(name, {}).items():
            if known == value:
                return f"as {other}"
        kept[name][way] = value
        return value

    def _say(self, name: str, lines: list[str]) -> None:
        """A text for people; what it counts counts apart from its words."""
        self.texts[name] = lines
        if "estimate" in name:
            self.names.setdefault("numbers in texts", {})[name] = [NUMBER.findall(line) for line in lines]

    # --- workflows

    def _workflows(self, nodes: Nodes) -> None:
        self.workflows["nodes"] = nodes.schemas()
        for path in sorted((ROOT / "workflows").glob("*.json")):
            shown = json.loads(path.read_text(encoding="utf-8"))
            api = json.loads((path.parent / "api" / path.name).read_text(encoding="utf-8"))
            self.workflows[path.stem] = {
                "api": {node: [entry["class_type"], _shortened(entry["inputs"])] for node, entry in api.items()},
                "ui": {node["id"]: [node["type"], _digest(node.get("widgets_values"))] for node in shown["nodes"]},
                "links": _digest(shown["links"]),
                "plans": {
                    node: _plans(nodes, entry["inputs"])
                    for node, entry in api.items()
                    if entry["class_type"] == "LongLivePromptTimeline"
                },
            }


def _plans(nodes: Nodes, inputs: dict) -> Any:
    """The film of a Prompt Timeline in a workflow, in chunks of both sizes that the sampler has."""
    timeline, _ = nodes.timeline(Film(inputs["text"], inputs["duration"]), inputs["fps"])
    plan = timeline.plan(3)
    return {
        "chunks": plan.chunks,
        "frames": plan.frames,
        "by ones": timeline.plan(1).chunks,
        "starts": [[segment.start_chunk, segment.transition] for segment in plan.segments],
        "exact": _digest(plan_text(plan)),
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shortened(each) for name, each in value.items()}
    return f"{value[:LONG]}... {_digest(value)}" if isinstance(value, str) and len(value) > LONG else value


def _without_words(report: dict) -> dict:
    """A report; of what it says in words whether it says so, since the words stand among the texts."""
    words = ("reused", "no_room", "repaired", "honoured", "no_effect", "hints")
    return {name: bool(value) if name in words else value for name, value in report.items()}


# --- films that only nodes make


def _fps(record: Record, nodes: Nodes) -> None:
    name = "24 frames a second"
    record._by_nodes(name, nodes.render(name, Film(SHORT, 2.0), fps=24.0), nodes.store(name))


def _begins_with_latents(record: Record, nodes: Nodes) -> None:
    name = "from latents"
    formats = nodes.nodes.compat.latents.comfy.latent_formats
    formats.Wan21 = lambda: SimpleNamespace(process_in=lambda latents: latents, process_out=lambda latents: latents)
    samples = numbers("start", (1, 16, 6, 4, 6))
    made = nodes.render(name, Film(SHORT, 2.0), start_latent={"samples": samples})
    record._by_nodes(name, made, nodes.store(name))
    store = SimpleNamespace(frames=nodes.nodes.LongLiveTakeFrames.execute(take=made.take, first=4, frames=5)[0])
    shapes = [list(part["samples"].shape if isinstance(part, dict) else part.shape) for part in store.frames]
    record.names[name]["Take Frames"] = shapes


def _cancelled(record: Record, nodes: Nodes) -> None:
    """Cancelled, then queued again."""
    name, film, store = "cancelled", Film(STORY, 6.0), nodes.store("cancelled")
    with nodes.after(4, nodes.cancel):
        record._by_nodes(name, nodes.render(name, film), store)
    resumed = nodes.render(name, film)
    record._film(name, "resumed", resumed.film)
    record.names[name]["resumed"]["report"] = _without_words(resumed.report)
    record._say(f"{name}: resumed", resumed.summary)


def _branched(record: Record, nodes: Nodes) -> None:
    name = "branched and extended"
    first = nodes.render(name, ORDINARY).take
    branch, shown = nodes.branch(first, "segment 2")
    record._say(f"{name}: Branch Take", shown.splitlines())
    nodes.render(name, Film("0s A box. {keep}", 2.0), take=branch)
    made = nodes.render(name, Film("0s A star.\n1.5s A box.", 2.0, {"seed": 8}), take=first)
    record._by_nodes(name, made, nodes.store(name))


def _prompt_in_between(record: Record, nodes: Nodes) -> None:
    """A prompt that comes while the film is rendered, and one with a cut."""
    _steered(
        record,
        nodes,
        "a prompt in between",
        Film(SHORT, 3.5),
        2,
        lambda: (nodes.live.prompt("A box.", "now"), nodes.live.prompt("In snow.", 3.0, "cut")),
    )


def _finished(record: Record, nodes: Nodes) -> None:
    _steered(record, nodes, "without end, finished", Film(SHORT, 0.0), 4, lambda: nodes.live.finish())


def _steered(record: Record, nodes: Nodes, name: str, film: Film, chunks: int, act: Callable[[], Any]) -> None:
    with nodes.after(chunks, act):
        record._by_nodes(name, nodes.render(name, film), nodes.store(name))


def make(folder: Path) -> dict[str, Any]:
    """Everything, by part."""
    return Record(folder).make().as_json()
