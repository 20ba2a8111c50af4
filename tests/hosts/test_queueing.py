"""What ComfyUI answers to graphs of this pack's nodes, before anything runs: in a real ComfyUI of any version, in
a process of its own without a server."""

import copy

import pytest

from scripts.harness import graphs
from scripts.harness.graphs import LOAD, SAMPLER, SAVE, TIMELINE

pytestmark = pytest.mark.slow

CUT = "0s A red ball bounces on a meadow. {cut}"
NAN = float("nan")
REAL = {"model": "longlive_base.pt", "text_encoder": "umt5_xxl_fp16.safetensors", "vae": "wan_2.1_vae.safetensors"}


def film(**inputs) -> dict:
    return graphs.film(graphs.POCKET, **inputs)


def put(graph: dict, node: str, **inputs) -> dict:
    graph[node]["inputs"].update(inputs)
    return graph


def without(graph: dict, node: str, *names: str) -> dict:
    for name in names:
        del graph[node]["inputs"][name]
    return graph


def text_from(graph: dict, kind: str, **inputs) -> dict:
    """The timeline's text comes from another node."""
    graph["9"] = {"class_type": kind, "inputs": inputs}
    return put(graph, TIMELINE, text=["9", 0])


def going_on(graph: dict) -> dict:
    """The sampler extends a take of an earlier day."""
    graph["8"] = {"class_type": "LongLiveLoadTake", "inputs": {"name": "newest"}}
    return put(graph, SAMPLER, take=["8", 0])


def second_film(graph: dict) -> dict:
    """Another sampler on the same timeline, whose film is saved too."""
    graph["5"], graph["6"] = copy.deepcopy(graph[SAMPLER]), copy.deepcopy(graph[SAVE])
    graph["5"]["_meta"]["title"] = "The other one"
    graph["6"]["inputs"]["video"] = ["5", 0]
    return graph


# --- one message for one mistake


SINGLE = {
    "NaN": (film(duration=NAN), TIMELINE, "duration is nan: give a number from -1 to 86400"),
    "NaN as text": (film(duration="nan"), TIMELINE, "duration is nan"),
    "infinity": (film(duration=float("inf")), TIMELINE, "duration"),
    "below the least": (film(fps=1e-9), TIMELINE, "fps"),
    "above the most": (film(width=4096), SAMPLER, "width"),
    "NaN elsewhere": (film(shift=NAN), SAMPLER, "shift is nan: give a number from 0.1 to 100"),
    "neither -1 nor 0": (film(duration=-0.5), TIMELINE, "the duration is -0.5 s: give seconds, -1 for"),
    "a part of a step": (film(steps=4.7), SAMPLER, "steps is 4.7: give a whole number from 1 to 50"),
    "true for a number": (film(seed=True), SAMPLER, "seed is True: give a whole number from 0"),
    "true for another": (film(fps=True), TIMELINE, "fps is True: give a number from 1 to 120"),
    "a word": (film(steps="many"), SAMPLER, "many"),
    "nothing for a number": (film(steps=None), SAMPLER, "steps"),
    "nothing for a text": (film(text=None), TIMELINE, "text is None: give a text"),
    "a number for a text": (film(text=5), TIMELINE, "text is 5: give a text"),
    "a list for a text": (film(text={"__value__": ["a"]}), TIMELINE, "text is ['a']: give a text"),
    "a list for a number": (film(steps=[4]), SAMPLER, "steps"),
    "a list for a choice": (film(chunk={"__value__": [3]}), SAMPLER, "[3]"),
    "no choice": (film(positions="rope"), SAMPLER, "rope"),
    "another choice": (film(chunk=2), SAMPLER, "2"),
    "true for a choice": (film(chunk=True), SAMPLER, "chunk True: allowed are 3, 1"),
    "a choice as text": (film(chunk="3"), SAMPLER, "3"),
    "no dtype": (film(dtype="int4"), LOAD, "int4"),
    "no such file": (film(lora="gone.safetensors"), LOAD, "gone.safetensors"),
    "no such model": (put(film(), LOAD, model="gone.pt"), LOAD, "there is no gone.pt in models/diffusion_models; "),
    "parts that the model lacks": (
        put(film(), LOAD, model=REAL["model"]),
        LOAD,
        "longlive_base.pt contains none of",
    ),
    "no such input": (put(film(), SAMPLER, negative=[LOAD, 1]), SAMPLER, "this version of the node has no input neg"),
    "no size": (film(size="huge"), SAMPLER, "huge"),
    "half a size": (film(width=640), SAMPLER, "width 640 without a height: give both"),
    "two sizes": (film(size="draft", width=640, height=480), SAMPLER, "size draft and width 640 and height 480"),
    "odd size": (film(width=100, height=80), SAMPLER, "the size is 100 x 80 pixels"),
    "window": (film(window=4), SAMPLER, "window 4, sink 3, chunk 3 (latent frames)"),
    "window by default": (without(film(sink=5), SAMPLER, "window", "chunk"), SAMPLER, "window 12, sink 5, chunk 3"),
    "empty timeline": (film(text=""), TIMELINE, "line 1, column 1: the timeline is empty"),
    "past the end": (film(text="0s a ball\n30s a star", duration=5.0), TIMELINE, "line 2, column 1: "),
    "an option on the first prompt": (film(text=CUT), TIMELINE, "line 1, column 1: the first segment has nothing"),
    "a blend on the first prompt": (film(text="0s a {blend=1c}"), TIMELINE, "line 1, column 1: the first segment has"),
    "too long": (film(duration=300.0, positions="absolute"), SAMPLER, "a shot of 1203 latent frames: absolute"),
    "no window without end": (film(duration=0, window=-1, sink=0), SAMPLER, "a film without end needs a window"),
}


@pytest.mark.parametrize("graph, node, words", SINGLE.values(), ids=SINGLE)
def test_one_message_for_one_mistake(inside, graph, node, words):
    """Forbids a value that holds in the browser only, the same message once for each input, and one whose first words
    are not the useful ones."""
    errors = inside.errors(graph)
    assert [error[0] for error in errors] == [node], errors
    name, _, message = errors[0][2].partition(" - ")
    assert (message or name).startswith(words) if " " in words else words in errors[0][2]


GOOD = {
    "as shipped": film(),
    "numbers as text": film(steps="4", duration="2.0", fps="16"),
    "whole numbers as fractions": film(steps=4.0, width=128.0, height=80.0),
    "every default": without(
        film(),
        SAMPLER,
        "size",
        "width",
        "height",
        "on_cancel",
        "steps",
        "shift",
        "window",
        "sink",
        "sink_policy",
        "chunk",
        "positions",
    ),
    "as it was written before there was a size": without(film(width=128, height=80), SAMPLER, "size"),
    "without end": film(duration=0),
    "its own length": film(duration=-1),
    "long, by the pocket model": film(duration=300.0),
    "a widget that is no more": put(film(), SAMPLER, cfg=6.0),
    "going on with a cut": going_on(film(text=CUT)),
    "text that nobody knows yet": text_from(
        film(),
        "RegexExtract",
        string="a",
        regex_pattern="a",
        mode="First Match",
        case_insensitive=True,
        multiline=False,
        dotall=False,
        group_index=1,
    ),
}


@pytest.mark.parametrize("graph", GOOD.values(), ids=GOOD)
def test_good_graphs_are_taken(inside, graph):
    """Forbids checks that refuse what would run."""
    assert inside.ask({"prompt": graph}) == {"accepted": True, "errors": []}


# --- what only the whole prompt tells


def test_linked_text_is_looked_at(inside):
    """Forbids a mistake in a text from another node that shows when the model is loaded."""
    errors = inside.errors(text_from(film(), "PrimitiveStringMultiline", value="0s A red ball\n2s"))
    assert [error[0] for error in errors] == [TIMELINE]
    assert errors[0][2].startswith("text - line 2, column 3: the segment at 2s has no text")
    errors = inside.errors(text_from(film(), "PrimitiveString", value=CUT))
    assert len(errors) == 1 and "so {cut} has no meaning there" in errors[0][2]
    parts = {"string_a": "0s A ball", "string_b": "{keep}", "delimiter": " "}
    errors = inside.errors(text_from(film(), "StringConcatenate", **parts))
    assert len(errors) == 1 and "so {keep} has no meaning there" in errors[0][2]
    assert inside.errors(going_on(text_from(film(), "PrimitiveString", value=CUT))) == []


def test_linked_numbers_are_looked_at(inside):
    """Forbids bounds that a link can bypass."""
    graph = film()
    graph["9"] = {"class_type": "PrimitiveInt", "inputs": {"value": 4096}}
    (error,) = inside.errors(put(graph, SAMPLER, width=["9", 0], height=["9", 0]))
    assert error[0] == SAMPLER and "width is 4096: give a whole number from 0 to 2048" in error[2]
    graph["9"]["inputs"]["value"] = 128
    assert inside.errors(graph) == []
    graph["9"] = {"class_type": "PrimitiveFloat", "inputs": {"value": 1e-9}}
    put(graph, SAMPLER, width=128, height=128)
    (error,) = inside.errors(put(graph, TIMELINE, fps=["9", 0]))
    assert error[0] == TIMELINE and "fps is 1e-09: give a number from 1 to 120" in error[2]


def test_the_sampler_without_a_take_is_named(inside):
    """Forbids that one sampler's take excuses the other, and a message that does not say which one it is about."""
    graph = going_on(second_film(film(text=CUT)))
    assert graph["5"]["inputs"].get("take") is None
    (error,) = inside.errors(graph)
    assert error[0] == TIMELINE and error[2].endswith("remove it, or connect a take to The other one (node 5)")
    assert inside.errors(put(graph, "5", take=["8", 0])) == []


def test_a_sampler_that_does_not_run_is_no_hindrance(inside):
    """Forbids refusals for the sake of nodes whose film is not requested."""
    graph = going_on(second_film(film(text=CUT)))
    assert inside.errors(graph, partial_execution_targets=[SAVE]) == []
    del graph["6"]
    assert inside.errors(graph) == []


def test_the_samplers_chunk_counts(inside):
    """Forbids refusing prompts that a frame-wise model has the time for, and accepting ones that it has not."""
    close = "0s A red ball\n1s A blue ball\n1.25s A star"
    (error,) = inside.errors(film(text=close))
    assert error[0] == TIMELINE and "line 3, column 1" in error[2]
    assert inside.errors(film(text=close, chunk=1, sink=3)) == []
    graph = put(second_film(film(text=close, chunk=1)), "5", chunk=3)
    assert [error[0] for error in inside.errors(graph)] == [TIMELINE]
    blend = "0s A red ball\n1.5s A blue ball {blend=1s}"
    assert [error[2].rpartition(";")[0] for error in inside.errors(film(text=blend, duration=2.0))] == [
        "text - line 2, column 1: the blend lasts 1 chunk, but its segment only 1 chunk"
    ]
    (error,) = inside.errors(film(text=blend, duration=2.0, chunk=1))
    assert "the blend lasts 4 chunks" in error[2] and error[2].endswith("(chunk 1 of Stream Sampler (node 3))")


def test_the_model_says_how_long_a_film_may_be(inside):
    """Forbids that the positions a model is trained with are found out after it was loaded; a file that may be anything
    is judged when it is."""
    graph = put(film(duration=300.0), LOAD, **REAL)
    (error,) = inside.errors(graph)
    assert error[0] == SAMPLER and "a shot of 1203 latent frames: absolute positions end at 1024" in error[2]
    graph["7"] = {
        "class_type": "LoraLoaderModelOnly",
        "inputs": {"model": [LOAD, 0], "lora_name": "lora.pt", "strength_model": 1.0},
    }
    assert len(inside.errors(put(graph, SAMPLER, model=["7", 0]))) == 1
    assert inside.errors(put(graph, SAMPLER, positions="relative")) == []
    assert inside.errors(put(film(duration=300.0), LOAD, **{**REAL, "model": "another.safetensors"})) == []
    cut = "0s A red ball\n150s A blue ball {cut}"
    assert inside.errors(put(film(text=cut, duration=300.0), LOAD, **REAL)) == []


def test_two_beginnings_are_refused(inside):
    """Forbids that one of two beginnings shows after the model was loaded."""
    graph = going_on(film())
    graph["7"] = {"class_type": "EmptyImage", "inputs": {"width": 128, "height": 80, "batch_size": 1, "color": 0}}
    (error,) = inside.errors(put(graph, SAMPLER, start_image=["7", 0]))
    assert error[0] == SAMPLER and "with one of these only, but start_image and take are connected" in error[2]


def test_what_others_change_counts(inside):
    """Forbids judging a prompt that another pack has changed since, or one that was queued before."""
    assert len(inside.errors(film(text=CUT))) == 1
    assert inside.errors(film()) == []


def test_takes_are_bounded(inside):
    """Forbids counts of frames and chunks that hold in the browser only."""
    graph = going_on(film())
    graph["7"] = {"class_type": "LongLiveTakeFrames", "inputs": {"take": ["8", 0], "first": 0, "frames": 48}}
    graph["6"] = {"class_type": "PreviewImage", "inputs": {"images": ["7", 0]}}
    assert inside.errors(graph) == []
    for value, words in (
        (0, "frames"),
        (1001, "frames"),
        (True, "frames is True: give a whole number from 1 to 1000"),
        (1.5, "frames is 1.5"),
        (NAN, "frames"),
    ):
        (error,) = inside.errors(put(graph, "7", frames=value))
        assert error[0] == "7" and words in error[2]
    graph["7"] = {"class_type": "LongLiveBranchTake", "inputs": {"take": ["8", 0], "chunks": 1.5}}
    del graph["6"]
    (error,) = inside.errors(put(graph, SAMPLER, take=["7", 0]))
    assert error[0] == "7" and "chunks is 1.5: give a whole number from 1" in error[2]


LINKED = {
    "size": ("LongLiveStreamSampler", {"width": 4096, "height": 80}, "width is 4096: give a whole number from 0 to"),
    "NaN": ("LongLiveStreamSampler", {"shift": NAN}, "shift is nan: give a number from 0.1 to 100"),
    "choice": ("LongLiveStreamSampler", {"positions": "rope"}, "positions 'rope': allowed are auto, absolute"),
    "text for a number": ("LongLiveStreamSampler", {"seed": "1"}, "seed is '1': give a whole number from 0 to"),
    "socket": ("LongLiveStreamSampler", {"negative": None}, "this version of the node has no input negative"),
    "fps": ("LongLivePromptTimeline", {"text": "0s a", "duration": 1.0, "fps": 1e-9}, "fps is 1e-09: give a number"),
    "duration": ("LongLivePromptTimeline", {"text": "0s a", "duration": NAN, "fps": 16.0}, "duration is nan: give a"),
    "text": ("LongLivePromptTimeline", {"text": 5, "duration": 1.0, "fps": 16.0}, "text is 5: give a text"),
    "frames": ("LongLiveTakeFrames", {"first": 0, "frames": 10**9}, "frames is 1000000000: give a whole number"),
    "chunks": ("LongLiveBranchTake", {"chunks": 0}, "chunks is 0: give a whole number from 1 to 1000000"),
    "dtype": ("LongLiveLoad", {"dtype": "int4"}, "dtype 'int4': allowed are auto, bf16, fp16, fp32"),
    "parts": ("LongLiveLoad", {"model": "longlive_base.pt"}, "longlive_base.pt contains none of its own: choose"),
}
NEEDED = {
    "LongLiveStreamSampler": {"model": object, "vae": object, "timeline": object},
    "LongLivePromptTimeline": {"clip": 1},
    "LongLiveTakeFrames": {"take": None},
    "LongLiveBranchTake": {"take": None},
    "LongLiveLoad": {
        "model": "pocket (built-in)",
        "lora": "none",
        "text_encoder": "from the model",
        "vae": "from the model",
        "dtype": "auto",
    },
}


@pytest.mark.parametrize("kind, inputs, words", LINKED.values(), ids=LINKED)
def test_linked_values_are_bounded_when_they_come(inside, kind, inputs, words):
    """Forbids bounds that hold at queueing only, where links have no value yet."""
    needed = {name: 1 if value is object else value for name, value in NEEDED[kind].items()}
    assert inside.ask({"execute": kind, "inputs": {**needed, **inputs}})["raised"].startswith(words)


# --- TAKE over the API: a link can only come from a node, but anything may be sent in its place


def frames_of(graph: dict, **inputs) -> dict:
    """Frames of a take of an earlier day are looked at."""
    graph["8"] = {"class_type": "LongLiveLoadTake", "inputs": {"name": "newest"}}
    graph["7"] = {"class_type": "LongLiveTakeFrames", "inputs": {"take": ["8", 0], "first": 0, "frames": 48, **inputs}}
    graph["6"] = {"class_type": "PreviewImage", "inputs": {"images": ["7", 0]}}
    return graph


FORGED = {
    "a dictionary": {"folder": "/", "id": "0123456789ab", "chunks": 1},
    "an empty one": {},
    "an id": "0123456789ab",
    "a number": 5,
    "true": True,
    "infinity": float("inf"),
    "a list in a wrapper": {"__value__": ["8", 0, 0]},
    "half a character": "\ud800",
    "deep": {"a": [{"b": [[[[[[[[1]]]]]]]]}]},
    "long": "x" * 100_000,
}


@pytest.mark.parametrize("value", FORGED.values(), ids=FORGED)
def test_a_value_in_the_place_of_a_link_is_refused(inside, value):
    """Forbids AttributeError from inside a node, after the film before it was rendered."""
    (error,) = inside.errors(frames_of(film(), take=value))
    assert error[0] == "7" and "take is " in error[2] and error[2].endswith("output, it takes no value")
    graph = put(film(), SAMPLER, take=["7", 0])
    graph["7"] = {"class_type": "LongLiveBranchTake", "inputs": {"take": value, "at": "2s"}}
    (error,) = inside.errors(graph)
    assert error[0] == "7" and "it takes no value" in error[2] and len(error[2]) < 300
    for name in ("take", "start_image", "start_latent", "timeline", "vae", "model"):
        errors = inside.errors(put(film(), SAMPLER, **{name: value}))
        assert [error[0] for error in errors] == [SAMPLER] and f"{name} is " in errors[0][2]


@pytest.mark.parametrize("kind", ["LongLiveTakeFrames", "LongLiveBranchTake", "LongLiveStreamSampler"])
def test_what_links_bring_in_the_place_of_a_take(inside, kind):
    """Forbids that a node which hands on anything brings something else than a take."""
    for value in (*FORGED.values(), [1, 2]):
        needed = {name: 1 for name, value in NEEDED[kind].items() if value is object}
        raised = inside.ask({"execute": kind, "inputs": {**needed, "take": value}})["raised"]
        assert raised.startswith("take is ") and raised.endswith("of Stream Sampler, Load Take or Branch Take")


NAMES = {
    "nothing": None,
    "a number": 5,
    "an id as a number": 123456789012,
    "true": True,
    "NaN": NAN,
    "an object": {"a": 1},
    "a list": {"__value__": ["0123456789ab"]},
    "empty": "",
    "a path": "../../etc [x]",
    "upper case": "0123456789AB",
    "too long": "x" * 1_000_000 + "[0123456789ab]",
    "brackets": "[" * 200_000,
    "half a character": "\ud800",
    "a zero": "\x00",
    "thirteen digits": "0123456789abc",
    "nobody's": "0123456789ab",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_whatever_names_no_take_is_refused(inside, name):
    """Forbids a name that is searched for minutes, becomes a path, or is reported only after the film before it."""
    graph = going_on(film())
    graph["8"]["inputs"]["name"] = name
    (error,) = inside.errors(graph)
    assert error[0] == "8" and len(error[2]) < 600
    assert ("there is no take 0123456789ab" if name == "0123456789ab" else "does not name a take") in error[2]
    raised = inside.ask({"execute": "LongLiveLoadTake", "inputs": {"name": name}})["raised"]
    assert "there is no take" in raised or "does not name a take" in raised


def test_a_linked_name_is_looked_at(inside):
    """Forbids a wrong id from another node that is reported only after everything before it is rendered."""
    graph = going_on(film())
    graph["9"] = {"class_type": "PrimitiveString", "inputs": {"value": "a red ball"}}
    graph["8"]["inputs"]["name"] = ["9", 0]
    assert any(error[0] == "8" and "'a red ball' does not name a take" in error[2] for error in inside.errors(graph))
    graph["9"]["inputs"]["value"] = "newest"
    assert not any("does not name a take" in error[2] for error in inside.errors(graph))
