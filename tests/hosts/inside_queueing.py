"""Prompts as a ComfyUI of this machine accepts or refuses them, in a process of its own: for test_queueing.py.

    python inside_queueing.py PATH_OF_COMFYUI PATH_OF_THE_PACK FOLDER_OF_MODELS < requests

A line of input is a request's JSON, the same line of output what came of it: {"accepted": ..., "errors": [[node, type,
details], ...]}. A line {"execute": TYPE, "inputs": {...}} calls a node of the pack with values as links would bring
them: {"raised": message or null}; with "cancelled": true as if the user had pressed Cancel. A line {"widgets": true}
requests the widgets of the pack's nodes: {TYPE: {name: {"kind": ..., "min": ..., "max": ..., "options": ...}}}.
"""

import asyncio
import importlib
import importlib.util
import json
import sys
from pathlib import Path
from unittest.mock import MagicMock

COMFYUI, PACK, MODELS = sys.argv[1:4]
EXTRAS = ("nodes_primitive", "nodes_string", "nodes_video", "nodes_images", "nodes_hunyuan")


def import_pack(name: str):
    """The pack under a name of its own: ComfyUI has a module `nodes` too."""
    spec = importlib.util.spec_from_file_location(name, Path(PACK) / "__init__.py", submodule_search_locations=[PACK])
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


sys.path.insert(0, str(Path(PACK) / "scripts"))
import launch_comfyui  # noqa: E402

if launch_comfyui.EXTRAS.is_dir():
    launch_comfyui.provide_torchvision()
sys.path.remove(str(Path(PACK) / "scripts"))
sys.path.insert(0, COMFYUI)
sys.argv = [sys.argv[0], "--cpu"]
for module in ("torchaudio", "torchaudio.functional", "torchaudio.transforms", "simpleeval", "blake3"):
    try:
        importlib.import_module(module)
    except ImportError:  # newer hosts import them at their top; nothing here uses them
        sys.modules[module] = MagicMock(__spec__=importlib.machinery.ModuleSpec(module, None))
import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
import execution  # noqa: E402
import folder_paths  # noqa: E402

import nodes  # noqa: E402

import_pack("pack")
queued_prompt = importlib.import_module("pack.nodes").compat.queued_prompt


async def load_nodes() -> None:
    for name in EXTRAS:
        await nodes.load_custom_node(str(Path(COMFYUI) / "comfy_extras" / f"{name}.py"), module_parent="comfy_extras")
    extension = sys.modules["pack.nodes"].LongLiveExtension()
    for node in await extension.get_node_list():
        nodes.NODE_CLASS_MAPPINGS[node.GET_SCHEMA().node_id] = node


async def queued(body: dict) -> dict:
    """As ComfyUI's server answers a request."""
    body = queued_prompt.remember(body)
    valid = await execution.validate_prompt("id", body["prompt"], body.get("partial_execution_targets"))
    errors = [[node, error["type"], error["details"]] for node, found in valid[3].items() for error in found["errors"]]
    return {"accepted": valid[0], "errors": errors}


def executed(kind: str, inputs: dict, cancelled: bool) -> dict:
    """What a node says to values that links bring; it has nothing to work with, so it fails in any case."""
    management = sys.modules["comfy.model_management"]
    management.interrupt_current_processing(cancelled)
    try:
        nodes.NODE_CLASS_MAPPINGS[kind].execute(**inputs)
    except management.InterruptProcessingException:
        return {"raised": "cancelled"}
    except ValueError as error:
        return {"raised": str(error)}
    except Exception:
        return {"raised": None}
    return {"raised": None}


def widgets() -> dict:
    widget_values, found = importlib.import_module("pack.nodes.validation.widget_values"), {}
    for kind, node in nodes.NODE_CLASS_MAPPINGS.items():
        if kind.startswith("LongLive"):
            found[kind] = {
                name: {
                    "kind": widget.io_type,
                    **{key: getattr(widget, key, None) for key in ("min", "max", "options", "default", "force_input")},
                }
                for name, widget in widget_values.widgets_of(node.define_schema().inputs).items()
            }
    return found


def answer(request: dict) -> dict:
    if "widgets" in request:
        return widgets()
    if "execute" in request:
        return executed(request["execute"], request["inputs"], request.get("cancelled", False))
    return asyncio.run(queued(request))


for kind in ("diffusion_models", "loras", "vae", "text_encoders"):
    folder_paths.folder_names_and_paths[kind] = ([str(Path(MODELS) / kind)], {".safetensors", ".pt"})
answers = sys.stdout
sys.stdout = sys.stderr  # for ComfyUI's own lines
asyncio.run(load_nodes())
for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), file=answers, flush=True)
