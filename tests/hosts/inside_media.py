"""Runs inside a real ComfyUI's modules, in a process of its own, and prints as JSON what is true: see test_media.py.

    python inside_media.py PATH_OF_COMFYUI PATH_OF_THE_PACK EMPTY_FOLDER

The pack is loaded by ComfyUI's own loader of custom nodes, several times; then its nodes are called as ComfyUI does.
"""

import asyncio
import importlib
import importlib.util
import io
import json
import logging
import sys
import types
from pathlib import Path
from unittest.mock import MagicMock

COMFYUI, PACK, FOLDER = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
sys.path.insert(0, str(PACK / "scripts"))
import launch_comfyui  # noqa: E402

if launch_comfyui.EXTRAS.is_dir():
    launch_comfyui.provide_torchvision()
sys.path.remove(str(PACK / "scripts"))
sys.path.insert(0, COMFYUI)
sys.argv = [sys.argv[0], "--cpu"]
if importlib.util.find_spec("torchaudio") is None:  # newer hosts import it; nothing here uses it
    for module in ("torchaudio", "torchaudio.functional", "torchaudio.transforms"):
        sys.modules[module] = MagicMock(__spec__=importlib.machinery.ModuleSpec(module, None))
import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
import av  # noqa: E402
import folder_paths  # noqa: E402
import torch  # noqa: E402
from aiohttp import web  # noqa: E402
from comfy.cli_args import args  # noqa: E402
from comfy.text_encoders.wan import WanT5Tokenizer  # noqa: E402

nodes = importlib.import_module("nodes")  # ComfyUI's

torch.set_num_threads(1)
MARK = "comfyui_longlive.copy_in_use"
SAMPLER = "LongLiveStreamSampler"
warnings: list[str] = []


class Listening(logging.Handler):
    def emit(self, record):
        warnings.append(record.getMessage())


logging.getLogger().addHandler(Listening(logging.WARNING))
routes = web.RouteTableDef()
instance = types.SimpleNamespace(routes=routes, client_id=None, add_on_prompt_handler=lambda handler: None)
sys.modules["server"] = types.SimpleNamespace(PromptServer=types.SimpleNamespace(instance=instance))
folder_paths.set_output_directory(str(FOLDER / "output"))
folder_paths.set_temp_directory(str(FOLDER / "temp"))


def load(name: str) -> dict:
    """Load a copy called `name`, as ComfyUI does at its start. -> what came of it."""
    path = FOLDER / "custom_nodes" / name
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        path.symlink_to(PACK, target_is_directory=True)
    warnings.clear()
    loaded = asyncio.run(nodes.load_custom_node(str(path)))
    node = nodes.NODE_CLASS_MAPPINGS[SAMPLER]
    return {
        "loaded": loaded,
        "warnings": list(warnings),
        "node": node.RELATIVE_PYTHON_MODULE,
        "routes": [f"{route.method} {route.path}" for route in routes],
        "same copy": {_copy_of(route.handler) for route in routes} == {_copy_of(node)},
        "web": [name for name, place in nodes.EXTENSION_WEB_DIRS.items() if "live" in name.lower()],
    }


def _copy_of(part) -> str:
    """The pack that a node or a route belongs to."""
    return part.__module__.partition(".nodes.")[0]


def twins() -> dict:
    found = {"one": load("ComfyUI-LongLive-main"), "again": load("ComfyUI-LongLive-main"), "two": load("longlive")}
    mark = sys.modules.pop(MARK)  # as of a copy that sets none
    found["without a mark"] = load("another")
    sys.modules[MARK] = mark
    newer = FOLDER / "custom_nodes" / "newer"
    newer.mkdir()
    (newer / "__init__.py").write_text((PACK / "__init__.py").read_text(encoding="utf-8"), encoding="utf-8")
    (newer / "pyproject.toml").write_text('[project]\nname = "comfyui-longlive"\nversion = "98.7"\n', encoding="utf-8")
    found["newer"] = load("newer")
    return found


def pack(part: str):
    """A module of the copy that is in use."""
    name = nodes.NODE_CLASS_MAPPINGS[SAMPLER].__module__.removesuffix(".nodes.sampler")
    return importlib.import_module(f"{name}.{part}")


# --- prompts


class Clip:
    """ComfyUI's tokenizer of umt5-xxl over a small vocabulary, and an encoder that only counts."""

    cond_stage_model = None

    def __init__(self):
        import sentencepiece

        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["a red ball rolls over the green grass"] * 50),
            model_writer=model,
            vocab_size=20,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
        )
        self.tokenizer = WanT5Tokenizer(tokenizer_data={"spiece_model": model.getvalue()})

    def tokenize(self, text, **options):
        return self.tokenizer.tokenize_with_weights(text, **options)

    def encode_from_tokens_scheduled(self, tokens):
        self.rows = tokens["umt5xxl"]
        return [[torch.tensor([[[float(token[0])] * 8 for token in self.rows[0]]]), {}]]


def prompts() -> dict:
    clip_text, timeline = pack("nodes.compat.text"), pack("longlive_core.timeline")
    text = pack("longlive_core.checkpoints.text_encoder")
    clip, long = Clip(), "a red ball rolls over the green grass " * 100
    contexts = {text: clip_text.encode_text(clip, text) for text in ("a red ball", long)}
    plan = timeline.parse(f"0s a red ball\n3s {long} {{blend=2s}}").plan(9)
    prompt_spans = pack("longlive_core.engine.prompts").prompt_spans
    spans = prompt_spans(plan.prompts, {**contexts, long.strip(): contexts[long]}.get)
    encoder = text.TextEncoder.load("pocket", dtype=torch.float32)
    pocket = pack("nodes.pocket_clip").load_pocket_clip()
    sentence = "A red ball bounces on a meadow. " * 9
    ways = [
        clip_text.encode_text(pocket, sentence),
        encoder.encode([sentence]),
        pocket.encode_from_tokens_scheduled(pocket.tokenize(sentence))[0][0],
    ]
    return {
        "lengths": [context.shape[1] for context in contexts.values()],
        "end": float(contexts[long][0, -1, 0]),
        "spans": sorted({span.context.shape[1] for span in spans}),
        "short": clip_text.text_cut(clip, "a red ball"),
        "long": clip_text.text_cut(clip, long),
        "pocket": clip_text.text_cut(pocket, sentence),
        "ways": [list(way.shape) for way in ways],
        "differ": max(float((way - ways[1]).abs().max()) for way in ways),
    }


# --- films


def run(model, clip, vae, text: str = "A red ball bounces on a meadow.", seconds: float = 0.6, **inputs):
    """-> the film's path, the sampler's report, the timeline's."""
    named = nodes.NODE_CLASS_MAPPINGS
    timeline = named["LongLivePromptTimeline"].execute(clip, text, seconds, 16.0)
    output = named[SAMPLER].execute(model, vae, timeline.args[0], seed=0, steps=1, **inputs)
    return (
        output.args[0].get_stream_source(),
        json.loads(output.ui.as_dict()["text"][0]),
        timeline.ui.as_dict()["text"][0],
    )


def metadata_of(path) -> dict:
    with av.open(str(path)) as film:
        chapters = film.chapters() if hasattr(film, "chapters") else []
        return {
            "tags": sorted(film.metadata),
            "streams": [stream.type for stream in film.streams],
            "chapters": len(chapters),
        }


def refusal(parts, **inputs) -> str:
    try:
        run(*parts, seconds=1.2, **inputs)
    except ValueError as error:
        return str(error)
    return ""


def silent(parts) -> dict:
    """Films with ComfyUI's flag and without it."""
    store = FOLDER / "output" / "longlive" / "takes"
    loud, report, _ = run(*parts)
    found = {"loud": metadata_of(loud), "loud take": metadata_of(store / report["take"] / "film.mp4")}
    args.disable_metadata = True
    path, report, _ = run(*parts)
    taken = metadata_of(store / report["take"] / "film.mp4")
    found |= {"film": metadata_of(path), "take": taken, "reused": report["reused"]}
    saved = str(FOLDER / "saved.mp4")
    pack("nodes.sampler").InputImpl.VideoFromFile(path).save_to(saved, metadata=None)  # as Save Video does with it
    found["saved"] = metadata_of(saved)
    found["text"] = b"red ball" in Path(path).read_bytes()
    args.disable_metadata = False
    return found


def beginnings(parts) -> dict:
    from comfy_extras.nodes_hunyuan import EmptyHunyuanLatentVideo

    make = getattr(EmptyHunyuanLatentVideo, "execute", None) or EmptyHunyuanLatentVideo().generate
    empty = getattr(made := make(width=128, height=80, length=9, batch_size=1), "args", made)[0]
    latent = torch.randn(1, 16, 3, 10, 16, generator=torch.Generator().manual_seed(0))
    picture = torch.rand(1, 80, 128, 4, generator=torch.Generator().manual_seed(0))
    _, masked, _ = run(*parts, seconds=1.2, start_latent={"samples": latent, "noise_mask": torch.ones(1, 80, 128)})
    _, seen_through, timeline = run(*parts, "A red ball bounces on a meadow. " * 9, 1.2, start_image=picture)
    return {
        "empty": refusal(parts, start_latent=empty),
        "two": refusal(parts, start_latent={"samples": latent.repeat(2, 1, 1, 1, 1)}),
        "long": refusal(parts, start_image=torch.rand(33, 8, 8, 3)),
        "none": refusal(parts, start_image=picture[:0]),
        "masked": masked["hints"],
        "seen through": seen_through["hints"],
        "timeline": timeline.splitlines()[-1],
    }


def main() -> None:
    facts = {"twins": twins(), "prompts": prompts()}
    parts = (
        nodes.NODE_CLASS_MAPPINGS["LongLiveLoad"]
        .execute("pocket (built-in)", "none", "from the model", "from the model", "fp32")
        .args
    )
    facts |= {"silent": silent(parts), "beginnings": beginnings(parts)}
    print(json.dumps(facts))


main()
