"""The shipped workflows as files, without a server; tests/comfy runs them."""

import copy
import io

import numpy as np
import pytest
from PIL import Image

from scripts import cards, templates, thumbnails, workflows
from scripts.harness import graphs

from .comfy.validation import DYNAMIC, files_of, problems, settled, to_api

DOCUMENTED = (graphs.WORKFLOWS.parent / "docs" / "checkpoints.md").read_text(encoding="utf-8")
THUMBNAIL_BYTES = 40_000

OBJECT_INFO = {
    "Load": {"input": {"required": {"name": [["a", "b"]]}}, "output": ["MODEL", "CLIP"]},
    "Sample": {
        "input": {
            "required": {
                "model": ["MODEL", {}],
                "seed": ["INT", {"min": 0, "max": 9}],
                "mode": ["COMBO", {"options": ["x", "y"]}],
            },
            "optional": {"text": ["STRING", {}]},
        },
        "output": ["VIDEO"],
    },
}
GRAPH = {
    "1": {"class_type": "Load", "inputs": {"name": "a"}},
    "2": {"class_type": "Sample", "inputs": {"model": ["1", 0], "seed": 3, "mode": "x", "text": "hello"}},
}


def test_files_are_what_the_descriptions_say():
    """Forbids a browser's form and a program's form that drift apart, and edits that the next writing would undo."""
    there = {path.relative_to(graphs.WORKFLOWS).as_posix() for path in graphs.WORKFLOWS.rglob("*.json")}
    wanted = workflows.files()
    assert there == set(wanted)
    differing = [name for name in there if (graphs.WORKFLOWS / name).read_text(encoding="utf-8") != wanted[name]]
    assert differing == [], "run python scripts/workflows.py"


@pytest.mark.parametrize("name", graphs.NAMES)
def test_links_agree_from_both_ends(name):
    """Forbids links that the browser drops: each is in the list, at its output and at its input alike."""
    workflow = graphs.ui(name)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    assert workflow["last_node_id"] == max(nodes)
    assert workflow["last_link_id"] == max(link[0] for link in workflow["links"])
    for number, source, out_slot, target, in_slot, kind in workflow["links"]:
        output, socket = nodes[source]["outputs"][out_slot], nodes[target]["inputs"][in_slot]
        assert number in output["links"]
        assert socket["link"] == number
        assert output["type"] == socket["type"] == kind
    ends = [number for node in nodes.values() for output in node["outputs"] for number in output["links"]]
    assert sorted(ends) == sorted(link[0] for link in workflow["links"])


@pytest.mark.parametrize("name", graphs.NAMES)
def test_thumbnail_is_small(name):
    """Forbids templates without a picture, and a pack that grows by megabytes of them."""
    path = templates.picture_path(name)
    assert path.stat().st_size < THUMBNAIL_BYTES
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("JPEG", (400, 400))


@pytest.mark.parametrize("name", graphs.REAL_NAMES)
def test_no_picture_pretends(name):
    """Forbids the pocket model's pictures, or old ones, on workflows whose film cannot be rendered here."""
    drawn = io.BytesIO(cards.jpeg(thumbnails.drawn(name)))
    with Image.open(templates.picture_path(name)) as picture, Image.open(drawn) as card:
        difference = np.abs(np.asarray(picture, float) - np.asarray(card, float))
    assert difference.mean() < 2, "run scripts/thumbnails --drawn"


def test_templates_have_an_order():
    """Forbids names that sort otherwise than they are meant, a first one not for beginners, and mixed models."""
    names = [templates.file_name(name) for name in templates.NAMES]
    assert names == sorted(names) and names[0] == "01_start_here_pocket"
    half = len(names) // 2
    assert all(name.endswith("_pocket") for name in names[:half])
    assert all(name.endswith("_longlive_1_3b") for name in names[half:])
    assert {template.name for template in templates.TEMPLATES} == set(workflows.DESCRIPTIONS)


@pytest.mark.parametrize("name", graphs.NAMES)
def test_note_says_what_it_is_for(name):
    """Forbids a workflow that a user cannot understand on opening it."""
    sentence = templates.template_of(name).sentence
    (note,) = [node["widgets_values"][0] for node in graphs.ui(name)["nodes"] if node["type"] == "MarkdownNote"]
    assert note.startswith(f"**{sentence}**\n\n") and len(sentence) < 100 and sentence[-1] == "."


@pytest.mark.parametrize("name", graphs.REAL_NAMES)
def test_real_workflow_names_published_files(name):
    """Forbids file names that stand on no model page, and workflows that do not say where their files come from."""
    graph = graphs.api(name)
    files = files_of(graph) - {workflows.LONGLIVE.lora}
    assert files
    assert [file for file in files if file not in DOCUMENTED] == []
    notes = [node["widgets_values"][0] for node in graphs.ui(name)["nodes"] if node["type"] == "MarkdownNote"]
    assert [file for file in files if file not in notes[0]] == []


@pytest.mark.parametrize("name", graphs.POCKET_NAMES)
def test_every_workflow_has_its_real_twin(name):
    """Forbids workflows that are shipped for the pocket model only."""
    kinds = [
        {entry["class_type"] for entry in graphs.api(which).values()} - {"CLIPLoader", "LongLiveLoad"}
        for which in (name, f"{name}_1_3b")
    ]
    assert kinds[0] == kinds[1]


def test_a_right_graph_has_no_problems():
    """Forbids a validation that nothing passes."""
    assert problems(GRAPH, OBJECT_INFO) == []


@pytest.mark.parametrize(
    "change, message",
    [
        ({"class_type": "Sampel"}, "no server has a node Sampel"),
        ({"model": None}, "input model is missing"),
        ({"extra": 1}, "it has no input extra"),
        ({"model": ["7", 0]}, "node 7, which is not there"),
        ({"model": ["1", 2]}, "output 2 of Load, which has 2"),
        ({"model": ["1", 1]}, "model takes MODEL, but Load gives CLIP"),
        ({"model": "a.safetensors"}, "takes a link of type MODEL"),
        ({"seed": 10}, "seed is 10, but goes from 0 to 9"),
        ({"seed": 1.5}, "seed is 1.5, but takes INT"),
        ({"seed": True}, "seed is True, but takes INT"),
        ({"mode": "z"}, "which is none of ['x', 'y']"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_every_kind_of_mistake_is_found(change, message):
    """Forbids a validation that passes everything."""
    graph = copy.deepcopy(GRAPH)
    for name, value in change.items():
        if name == "class_type":
            graph["2"][name] = value
        elif value is None:
            del graph["2"]["inputs"][name]
        else:
            graph["2"]["inputs"][name] = value
    found = problems(graph, OBJECT_INFO)
    assert len(found) == 1
    assert message in found[0]


def choice(inputs_of: dict[str, dict], **options) -> list:
    """A choice of a newer ComfyUI, each of whose answers brings inputs of its own."""
    return [DYNAMIC, {"options": [{"key": key, "inputs": inputs} for key, inputs in inputs_of.items()], **options}]


REENCODE = {"required": {"crf": ["FLOAT", {"min": 0.0, "max": 51.0}]}}
CODEC = {"auto": {}, "h264": {"optional": {"encoding": choice({"auto": {}, "re-encode": REENCODE})}}}
PLAIN = {
    "Save": {
        "input": {
            "required": {
                "prefix": ["STRING", {}],
                "format": [["auto", "mp4"], {}],
                "codec": ["COMBO", {"options": ["auto", "h264"]}],
            }
        },
        "output": [],
    }
}
NESTED = {
    "Save": {
        "input": {
            "required": {
                "prefix": ["STRING", {}],
                "format": choice({name: {"required": {"codec": choice(CODEC)}} for name in ("auto", "mp4")}),
            },
            "optional": {"codec": choice(CODEC, hidden=True)},
        },
        "output": [],
    }
}
SAVED = {"1": {"class_type": "Save", "inputs": {"prefix": "a", "format": "auto", "codec": "auto"}}}


def drawn(*values) -> dict:
    """A workflow as the browser saves it, of one node with these widgets."""
    return {"links": [], "nodes": [{"id": 1, "type": "Save", "inputs": [], "widgets_values": list(values)}]}


@pytest.mark.parametrize("info", [PLAIN, NESTED], ids=["old", "new"])
def test_one_workflow_fits_old_and_new_hosts(info):
    """Forbids helpers that know one version's Save Video only: its choices became ones with inputs of their own."""
    assert problems(SAVED, info) == []
    queued = to_api(drawn("a", "auto", "auto"), info)
    assert problems(queued, info) == []
    assert settled(queued, info) == settled(SAVED, info) == SAVED
    other = to_api(drawn("a", "auto", "h264"), info)
    assert problems(other, info) == []
    assert settled(other, info) != SAVED, "what is drawn differs from what is queued"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"format": "gif"}, "format is 'gif', which is none of ['auto', 'mp4']"),
        ({"codec": "av1"}, "codec is 'av1', which is none of ['auto', 'h264']"),
        ({"format.codec": "av1"}, "format.codec is 'av1', which is none of ['auto', 'h264']"),
        ({"format.crf": 3.0}, "it has no input format.crf"),
        ({"format.codec": "h264", "format.codec.encoding": "re-encode"}, "input format.codec.encoding.crf is missing"),
        (
            {"format.codec": "h264", "format.codec.encoding": "re-encode", "format.codec.encoding.crf": 60.0},
            "format.codec.encoding.crf is 60.0, but goes from 0.0 to 51.0",
        ),
    ],
)
def test_mistakes_in_what_a_choice_brings_are_found(change, message):
    """Forbids a validation that looks at a choice and not at what it brings."""
    graph = copy.deepcopy(SAVED)
    graph["1"]["inputs"] |= change
    found = problems(graph, NESTED)
    assert len(found) == 1
    assert message in found[0]


def test_browser_of_a_new_host_saves_one_widget_more():
    """Forbids that the hidden twin of a nested choice counts as a widget too many, or as the one that holds."""
    queued = to_api(drawn("a", "mp4", "h264", "auto", "auto"), NESTED)
    assert queued["1"]["inputs"] == {
        "prefix": "a",
        "format": "mp4",
        "format.codec": "h264",
        "format.codec.encoding": "auto",
        "codec": "auto",
    }
    assert problems(queued, NESTED) == []
    assert settled(queued, NESTED)["1"]["inputs"]["codec"] == "h264"
    with pytest.raises(AssertionError, match="left over"):
        to_api(drawn("a", "auto", "auto", "auto", "auto"), NESTED)
    with pytest.raises(AssertionError, match="no widget value for format"):
        to_api(drawn("a"), NESTED)
