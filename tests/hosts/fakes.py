"""ComfyUIs that cannot be installed side by side, as stand-ins: what this pack uses of them, and how they differ.

`Host("0.3.75")` has the oldest supported surface on a CPU. `Host("0.27")` has what came since: more arguments in
schemas, widgets and loaders; an interrupt that is a BaseException; a GPU with dynamic VRAM, where a weight may be read
inside its module's forward only; a VAE whose decoder returns a list. `Host("0.46")` besides takes an attention that a
file or a LoRA requests (`ComfyAttention`, 0.40), written from the newest files. All compute on the CPU.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
OLD, NEW, NEWEST = "0.3.75", "0.27", "0.46"
VERSIONS = (OLD, NEW, NEWEST)

SCHEMA = [
    "node_id",
    "display_name",
    "category",
    "inputs",
    "outputs",
    "hidden",
    "description",
    "is_input_list",
    "is_output_node",
    "is_deprecated",
    "is_experimental",
    "is_api_node",
    "not_idempotent",
    "enable_expand",
]
NEWER_SCHEMA = ["search_aliases", "is_dev_only", "accept_all_inputs", "essentials_category", "has_intermediate_output"]
SOCKET = ["id", "display_name", "optional", "tooltip", "lazy"]
WIDGET = [
    *SOCKET,
    "default",
    "socketless",
    "force_input",
    "min",
    "max",
    "step",
    "round",
    "control_after_generate",
    "display_mode",
    "options",
    "multiline",
    "placeholder",
    "dynamic_prompts",
]
NEWER_WIDGET = ["advanced", "extra_dict", "raw_link"]


class Taking:
    """Something that takes the named arguments and no others, as functions do."""

    NAMES: list[str] = []

    def __init__(self, **given):
        unknown = sorted(set(given) - set(self.NAMES))
        if unknown:
            raise TypeError(f"{type(self).__name__} got an unexpected keyword argument {unknown[0]!r}")
        self.given = given

    def __getattr__(self, name: str):
        """What was given, by its name."""
        if name.startswith("__") or name not in self.NAMES:
            raise AttributeError(name)
        return self.__dict__.get("given", {}).get(name)


def taking(name: str, names: list[str]) -> type:
    parameters = [inspect.Parameter(each, inspect.Parameter.KEYWORD_ONLY, default=None) for each in names]
    return type(name, (Taking,), {"NAMES": names, "__signature__": inspect.Signature(parameters)})


class Input(Taking):
    """A socket without a widget; its id may be given by position."""

    NAMES = SOCKET

    def __init__(self, id: str, **given):
        super().__init__(id=id, **given)


class Output(Taking):
    NAMES = ["display_name"]


class Patcher:
    """A MODEL, or the patcher of a CLIP or a VAE."""

    def __init__(self, model, disable_dynamic: bool = False):
        self.model, self.disable_dynamic, self.cached_patcher_init = model, disable_dynamic, None
        self.load_device, self.model_options, self.object_patches = torch.device("cpu"), {}, {}
        self.patches, self.backup, self.weight_wrapper_patches = {}, {}, {}
        self.wrappers, self.callbacks, self.injections, self.hook_patches = {}, {}, {}, {}

    def get_model_object(self, name: str):
        return None  # of manual_cast_dtype: computes in the dtype of the weights

    def pre_run(self) -> None:
        self._call("on_pre_run")

    def cleanup(self) -> None:
        self._call("on_cleanup")

    def _call(self, place: str) -> None:
        for functions in self.callbacks.get(place, {}).values():
            for function in functions:
                function(self)

    def memory_required(self, shape) -> int:
        return 0

    def set_model_compute_dtype(self, dtype) -> None:
        pass

    def clone(self, disable_dynamic: bool = False) -> Patcher:
        """What torch.compile and several GPUs do on 0.12 and newer: the loader is called again."""
        if self.cached_patcher_init is None:
            raise RuntimeError("cached_patcher_init is not initialized")
        function, arguments = self.cached_patcher_init
        return function(*arguments, disable_dynamic=disable_dynamic)


class Interrupt:
    """Counts checks of the Cancel button, and raises at one of them if set to."""

    def __init__(self, kind: type[BaseException]):
        self.kind, self.looks, self.at = kind, 0, None

    def check(self) -> None:
        self.looks += 1
        if self.looks == self.at:
            raise self.kind()


class Host:
    """The modules that a version of ComfyUI has; `temp` is its temporary folder, `disable_metadata` a flag of the user.

    Attributes: interrupt; released: how often memory was released; progress: the bar's updates.
    """

    def __init__(self, version: str, temp: Path):
        self.new, self.newest, self.temp = version != OLD, version == NEWEST, temp
        base = BaseException if self.new else Exception
        self.interrupt = Interrupt(type("InterruptProcessingException", (base,), {}))
        self.released, self.progress, self.disable_metadata = 0, [], False

    @contextmanager
    def pack(self):
        """Import this pack into the host: yields its package. Afterwards both are removed."""
        before = dict(sys.modules)
        sys.modules.update(self._modules())
        name = f"pack_in_{'new' if self.new else 'old'}_host"
        spec = importlib.util.spec_from_file_location(
            name, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
        )
        package = importlib.util.module_from_spec(spec)
        sys.modules[name] = package
        try:
            spec.loader.exec_module(package)
            importlib.import_module(f"{name}.nodes")
            yield package
        finally:
            for gone in set(sys.modules) - set(before):
                if gone == name or gone.startswith((f"{name}.", "comfy", "folder_paths")):
                    del sys.modules[gone]

    def _modules(self) -> dict[str, ModuleType]:
        attention = _module("comfy.ldm.modules.attention", optimized_attention=_attention)
        if self.newest:
            attention.ComfyAttention = ComfyAttention
        modules = _module("comfy.ldm.modules", attention=attention)
        ldm = _module("comfy.ldm", modules=modules)
        management, sd, utils = self._management(), self._sd(), self._utils()
        latest = _module(
            "comfy_api.latest",
            ComfyExtension=object,
            io=self._io(),
            ui=SimpleNamespace(PreviewText=str),
            InputImpl=SimpleNamespace(VideoFromFile=str),
        )
        folders = _module(
            "folder_paths",
            get_temp_directory=lambda: str(self.temp),
            get_output_directory=lambda: f"{self.temp}_output",
            get_filename_list=lambda folder: [],
            get_folder_paths=lambda folder: [],
            get_full_path=lambda folder, name: None,
        )
        ops = _module("comfy.ops", manual_cast=type("manual_cast", (), {"Linear": nn.Linear}))
        algorithms = {"int8_tensorwise": None} if self.new else {}
        quant, lora = _module("comfy.quant_ops", QUANT_ALGOS=algorithms), _module("comfy.lora")
        flags = _module(
            "comfy.cli_args", args=SimpleNamespace(disable_metadata=self.disable_metadata, enable_cors_header=None)
        )
        comfy = _module(
            "comfy",
            cli_args=flags,
            ldm=ldm,
            model_management=management,
            sd=sd,
            utils=utils,
            ops=ops,
            quant_ops=quant,
            lora=lora,
        )
        execution = _module("comfy_execution.utils", get_executing_context=lambda: None)
        formats = comfy.latent_formats = _module("comfy.latent_formats")
        parents = [_module("comfy_execution", utils=execution), _module("comfy_api", latest=latest)]
        made = [
            attention,
            modules,
            ldm,
            management,
            sd,
            utils,
            latest,
            folders,
            ops,
            quant,
            lora,
            flags,
            comfy,
            formats,
            execution,
            *parents,
        ]
        return {module.__name__: module for module in made}

    def _management(self) -> ModuleType:
        def release():
            self.released += 1

        return _module(
            "comfy.model_management",
            get_torch_device=lambda: torch.device("cpu"),
            InterruptProcessingException=self.interrupt.kind,
            is_device_cpu=lambda device: not self.new,
            throw_exception_if_processing_interrupted=self.interrupt.check,
            load_models_gpu=lambda models, memory_required: None,
            soft_empty_cache=release,
        )

    def _utils(self) -> ModuleType:
        class ProgressBar:
            def __init__(bar, total: int):
                bar.total = total

            def update_absolute(bar, value, total=None, preview=None) -> None:
                assert total in (None, bar.total)
                self.progress.append((value, bar.total, preview is not None))

        return _module("comfy.utils", ProgressBar=ProgressBar)

    def _sd(self) -> ModuleType:
        class VAE:
            def __init__(self, sd=None, dtype=None):
                self.patcher = Patcher(sd)

            def throw_exception_if_invalid(self):
                pass

        class CLIP:
            def __init__(self, target=None):
                self.patcher = Patcher(target)

        class NewerCLIP(CLIP):
            def __init__(self, target=None, disable_dynamic=False):
                self.patcher = Patcher(target, disable_dynamic)

        def load(sd, model_options):
            return Patcher(sd)

        def load_newer(sd, model_options, metadata=None, disable_dynamic=False):
            return Patcher(sd, disable_dynamic)

        return _module(
            "comfy.sd",
            VAE=VAE,
            CLIP=NewerCLIP if self.new else CLIP,
            load_diffusion_model_state_dict=load_newer if self.new else load,
        )

    def _io(self) -> SimpleNamespace:
        widget = taking("WidgetInput", WIDGET + NEWER_WIDGET if self.new else WIDGET)

        class WidgetInput(widget):
            def __init__(self, id: str, **given):
                super().__init__(id=id, **given)

        WidgetInput.__signature__ = widget.__signature__
        sockets = ("Model", "Clip", "Vae", "Video", "Image", "Latent")
        kinds = {name: SimpleNamespace(Input=Input, Output=Output) for name in sockets}
        for name in ("Int", "Float", "String", "Combo"):
            own = type(f"{name}Input", (WidgetInput,), {"__signature__": widget.__signature__})
            kinds[name] = SimpleNamespace(Input=own, Output=Output)
        return SimpleNamespace(
            ComfyNode=object,
            Input=Taking,
            NodeOutput=lambda *outputs, ui=None: (outputs, ui),
            Custom=lambda name: SimpleNamespace(Input=Input, Output=Output),
            Schema=taking("Schema", SCHEMA + NEWER_SCHEMA if self.new else SCHEMA),
            **kinds,
        )


def _module(name: str, **members) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(members)
    return module


def _attention(q: Tensor, k: Tensor, v: Tensor, heads: int, **options) -> Tensor:
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class ComfyAttention(nn.Module):
    """As from 0.40 on, a child of every attention: the file's request is stored in it, and in the state dictionary."""

    def __init__(self, config: dict | None = None):
        super().__init__()
        self.config = config

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        if self.config is not None:
            destination[f"{prefix}config"] = encoded(self.config)


def encoded(config: dict) -> Tensor:
    """As in files: JSON in bytes."""
    return torch.tensor(list(json.dumps(config).encode()), dtype=torch.uint8)


def guard_weights(module: nn.Module) -> None:
    """As under dynamic VRAM: `.weight` and `.bias` exist while the module's own forward runs, and else an error."""
    for part in module.modules():
        if "weight" in part._parameters:
            part.__class__ = _guarded(type(part))


def _guarded(kind: type[nn.Module]) -> type[nn.Module]:
    def reading(name: str):
        def read(self):
            assert self.__dict__.get("_at_work"), f"{kind.__name__}.{name} was read outside its forward"
            return self._parameters[name]

        return property(read)

    def forward(self, *arguments, **options):
        self.__dict__["_at_work"] = True
        try:
            return kind.forward(self, *arguments, **options)
        finally:
            self.__dict__["_at_work"] = False

    return type(
        f"Guarded{kind.__name__}", (kind,), {"weight": reading("weight"), "bias": reading("bias"), "forward": forward}
    )


def refuse_grouped_decoding(vae: nn.Module) -> None:
    """As from 0.18 on: the decoder takes frames in its own groups and returns a list, so it must not be called."""

    def refuse(*arguments, **options):
        raise AssertionError("the decoder was called; its frames come in groups that differ by version")

    vae.decode = vae.decoder.forward = refuse


def rename_history(vae: nn.Module) -> None:
    """As from 0.18 on: a causal convolution's past is its second argument still, under another name, before others."""
    from longlive_core.vae.module import CausalConv3d

    class Newer(CausalConv3d):
        def forward(self, x, cache_x=None, cache_list=None, cache_idx=None):
            assert cache_list is None
            return super().forward(x, cache_x)

    for part in vae.modules():
        if type(part) is CausalConv3d:
            part.__class__ = Newer
