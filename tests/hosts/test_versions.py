"""The nodes in ComfyUIs of different versions, as stand-ins; tests/comfy runs them in a real one."""

import ast
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from longlive_core.checkpoints.built_in import DIT_FILE, VAE_FILE, weights_folder
from longlive_core.config import ModelConfig
from longlive_core.model import WanModel
from longlive_core.vae import WanVAE

from ..holding import holding
from . import fakes

pytestmark = pytest.mark.slow

SHAPE = ModelConfig(dim=48, ffn_dim=64, num_heads=2, num_layers=2, text_dim=20, freq_dim=16)
SIZE = (48, 32)  # pixels
PUBLIC = {
    "comfy_api.latest",
    "comfy.utils",
    "folder_paths",
}  # of ComfyUI, for nodes; the rest is for nodes/compat alone
COMFYUI = ("comfy", "comfy_api", "comfy_execution", "execution", "folder_paths", "latent_preview", "nodes", "server")
TEXT = "0s one\n2.25s two\n3.75s three {cut}"
CHUNKS = 8  # of 5.0 s: five before the cut, three after it


@pytest.fixture(params=fakes.VERSIONS)
def host(request, tmp_path):
    return fakes.Host(request.param, tmp_path)


@pytest.fixture
def new_host(tmp_path):
    return fakes.Host(fakes.NEW, tmp_path)


@pytest.fixture
def parts():
    """A small random MODEL and VAE, as a host hands them to a node."""
    torch.manual_seed(0)
    module, vae = WanModel(SHAPE).requires_grad_(False), WanVAE(dim=4).requires_grad_(False)
    weights = {f"diffusion_model.{name}": weight for name, weight in module.state_dict().items()}
    model = fakes.Patcher(
        SimpleNamespace(diffusion_model=module, get_dtype=lambda: torch.float32, state_dict=lambda: weights)
    )
    wrapped = SimpleNamespace(
        first_stage_model=vae,
        latent_channels=16,
        vae_dtype=torch.float32,
        patcher=fakes.Patcher(vae),
        device=torch.device("cpu"),
        memory_used_decode=lambda shape, dtype: 0,
    )
    return model, wrapped


def filming(package, parts):
    """A film of 5.0 s in three segments, ready to be rendered."""
    nodes, core = package.nodes, package.longlive_core
    script = core.timeline.parse(TEXT)
    generator = torch.Generator().manual_seed(1)
    contexts = {text: torch.randn(1, 5, SHAPE.text_dim, generator=generator) for text in script.plan(5.0, 16).texts}
    clip = SimpleNamespace(
        patcher=fakes.Patcher(torch.nn.Linear(2, 2)),
        cond_stage_model=None,
        tokenize=lambda text, **options: {"umt5xxl": [[(1, 1.0)]]},
    )
    timeline = nodes.timeline.Timeline(TEXT, script, 5.0, 16.0, contexts, clip)
    stream = core.config.StreamConfig(window=6, denoising_steps=(1000, 500))
    return nodes.filming.Filming(*parts, timeline, stream, seed=3, size=SIZE)


def test_every_node_is_defined(host):
    """Forbids arguments that a version lacks, each of which loses all nodes of the pack, and the loss of the others."""
    with host.pack() as package:
        nodes = package.nodes
        schemas = [
            node.define_schema().given
            for node in (
                nodes.LongLiveLoad,
                nodes.LongLivePromptTimeline,
                nodes.LongLiveStreamSampler,
                nodes.LongLiveTakeFrames,
                nodes.LongLiveLoadTake,
                nodes.LongLiveBranchTake,
            )
        ]
    assert all(bool(schema.get("search_aliases")) is host.new for schema in schemas)
    sampler = {widget.given["id"]: widget.given for widget in schemas[2]["inputs"]}
    assert sampler["window"].get("advanced", False) is host.new
    assert sampler["window"]["default"] == 12


def test_a_misspelt_argument_is_an_error(host):
    """Forbids that a typing error counts as an argument that this version lacks, and that a tooltip is lost."""
    with host.pack() as package:
        compat, widgets = package.nodes.compat, package.nodes.compat.node_schema.io
        with pytest.raises(TypeError, match="tooltp"):
            compat.widget(widgets.Int, "steps", default=4, tooltp="Denoising steps.")


@pytest.mark.parametrize("keep", [False, True])
def test_cancel_leaves_what_was_requested_for(host, parts, keep):
    """Forbids `except Exception` for an interrupt that is no Exception, and files and caches that stay after it."""
    with host.pack() as package:
        film = filming(package, parts)
        host.interrupt.at = 24  # in the sixth chunk
        if keep:
            filmed = film.run(keep_partial=True)
            assert not filmed.as_requested and filmed.report["chunks"] == filmed.take.chunks == 5
            assert [str(path) for path in host.temp.iterdir()] == [filmed.path]
        else:
            with pytest.raises(host.interrupt.kind):
                film.run(keep_partial=False)
            assert list(host.temp.iterdir()) == []
        assert film.take.reused == 5
    assert host.interrupt.looks == 24
    assert film.host.decoder._memory == {}
    assert host.released == 1


@pytest.mark.parametrize(("waiting", "pictures", "events"), [(0, CHUNKS, CHUNKS), (40, 0, CHUNKS), (5000, 0, 0)])
def test_a_client_that_stops_reading(host, parts, monkeypatch, waiting, pictures, events):
    """Forbids a film that fills the server's memory with messages, which wait for one client that does not read."""
    sent, bars = [], []
    with host.pack() as package:
        film = filming(package, parts)
        monkeypatch.setattr(package.nodes.compat.server, "send", lambda *message: sent.append(message))
        monkeypatch.setattr(package.nodes.compat.server, "waiting", lambda: waiting)
        bar = type("Bar", (), {"update_absolute": lambda self, *said: bars.append(said)})
        monkeypatch.setattr(package.nodes.progress.comfy.utils, "ProgressBar", lambda total: bar())
        assert film.run(keep_partial=True).as_requested
    assert (len([said for said in bars if said[2:] and said[2]]), len(sent)) == (pictures, events)
    assert bool(bars) == bool(events)


def test_the_growing_film_is_reported_by_its_name(host, parts, monkeypatch):
    """Forbids a live panel that shows the last render's growing film because a player still holds that one's name."""
    files = []
    with host.pack() as package:
        film = filming(package, parts)
        film.take.growing_path.write_bytes(b"held")
        monkeypatch.setattr(package.nodes.compat.server, "send", lambda kind, data, client: files.append(data["file"]))
        with holding(monkeypatch, film.take.growing_path):
            film.run(keep_partial=True)
    assert {file["filename"] for file in files} == {"growing.1.mp4"} and len(files) == CHUNKS


def test_patches_in_place_do_not_change_what_a_model_is(host, parts):
    """Forbids a take that is not found again while a LoRA is applied, or found although one came."""
    from collections import namedtuple

    kept, name = namedtuple("Kept", ["weight"]), "diffusion_model.blocks.0.self_attn.q.weight"
    with host.pack() as package:
        identity, (model, _) = partial(package.nodes.compat.identity.model_identity, dtype=torch.float32), parts
        plain = identity(model)
        weight = model.model.state_dict()[name]
        model.patches = {name: [(1.0, ("diff", (torch.ones_like(weight),)), 1.0, None, None)]}
        patched = identity(model)
        model.backup = {name: kept(weight.clone())}
        weight += 1.0
        assert identity(model) == patched != plain
        model.patches[name] = [(0.5, *model.patches[name][0][1:])]
        assert identity(model) not in (patched, plain)
        model.patches = {}
        assert identity(model) == plain
        model.model_options = {"transformer_options": {"patches": {}}}
        assert identity(model) == plain, "nothing here calls these"
        model.model_options = {"transformer_options": {"optimized_attention_override": lambda function: function}}
        assert identity(model) != plain


def test_cancel_before_the_first_chunk_is_a_cancel(host, parts):
    """Forbids a film without frames."""
    with host.pack() as package:
        film = filming(package, parts)
        host.interrupt.at = 2
        with pytest.raises(host.interrupt.kind):
            film.run(keep_partial=True)


def test_all_hosts_make_the_same_film(tmp_path, parts):
    """Forbids a version whose films differ: modules alone read their weights, and only the decoder's layers run."""
    made = []
    for version in fakes.VERSIONS:
        folder = tmp_path / version
        host = fakes.Host(version, folder)
        if host.new:
            fakes.rename_history(parts[1].first_stage_model)
            fakes.refuse_grouped_decoding(parts[1].first_stage_model)
            for module in (parts[0].model.diffusion_model, parts[1].first_stage_model):
                fakes.guard_weights(module)
        with host.pack() as package:
            filmed = filming(package, parts).run(keep_partial=True)
        with open(filmed.path, "rb") as film:
            made.append(film.read())
        values = [value for value, _, _ in host.progress]
        assert values == sorted(values)
        assert set(values) == set(range(CHUNKS * 3 + 1)), "every pass moves the bar"
        assert sum(preview for _, _, preview in host.progress) == CHUNKS
    assert made[0] == made[1] == made[2]


def test_guard_sees_a_weight_that_is_read(parts):
    """Forbids a guard that lets everything pass."""
    layer = parts[0].model.diffusion_model.blocks[0].self_attn.q
    fakes.guard_weights(layer)
    layer(torch.zeros(1, SHAPE.dim))
    with pytest.raises(AssertionError, match="Linear.weight was read"):
        layer.weight  # noqa: B018 - reading it is the test


def test_everything_loaded_can_be_loaded_again(new_host):
    """Forbids that torch.compile and several GPUs fail on newer versions, where they need another patcher."""
    with new_host.pack() as package:
        compat = package.nodes.compat
        model = compat.load_model(str(weights_folder() / DIT_FILE), None, "fp32")
        vae = compat.load_vae(str(weights_folder() / VAE_FILE), "fp32")
        clip = package.nodes.pocket_clip.load_pocket_clip()
        again = [patcher.clone(disable_dynamic=True) for patcher in (model, vae.patcher, clip.patcher)]
    assert not model.disable_dynamic
    assert [patcher.disable_dynamic for patcher in again] == [True, False, True]  # a VAE's is ComfyUI's own choice
    assert again[0].model.keys() == model.model.keys()
    assert all(patcher.cached_patcher_init for patcher in again)


def test_attention_that_a_file_asks_for_is_handed_on_or_named(host, tmp_path, caplog):
    """Forbids that a file with such a wish (0.40) is refused, hosts given what they do not know, and silence."""
    weights, wish = load_file(weights_folder() / DIT_FILE), "blocks.1.self_attn.comfy_attention.config"
    save_file({**weights, wish: fakes.encoded({"attention": "comfy_kitchen_int8"})}, tmp_path / "asks.safetensors")
    with host.pack() as package:
        loaded = package.nodes.compat.load_model(str(tmp_path / "asks.safetensors"), None, "fp32").model
    assert loaded.keys() - weights.keys() == ({wish} if host.newest else set())
    said = "asks.safetensors sets another kind of attention in 1 layers (comfy_kitchen_int8), which is not used"
    assert (said in caplog.text) is not host.newest


def test_int8_keeps_the_attention_that_a_file_asks_for(tmp_path, parts):
    """Forbids Quantize INT8 that drops it, or treats it as a weight."""
    model, _ = parts
    module = model.model.diffusion_model
    module.blocks[1].self_attn.comfy_attention = fakes.ComfyAttention({"attention": "comfy_kitchen_int8"})
    module.blocks[0].self_attn.comfy_attention = fakes.ComfyAttention()
    state = {f"diffusion_model.{name}": weight for name, weight in module.state_dict().items()}
    model.model.state_dict = lambda: state
    keys = {
        name: [(weight, lambda weight, **options: weight)]
        for name, weight in state.items()
        if not name.endswith(".config")
    }
    model.get_key_patches = lambda prefix: keys
    model.injections, model.hook_patches, model.wrappers = {}, {}, {}
    with fakes.Host(fakes.NEWEST, tmp_path).pack() as package:
        inside = package.nodes.compat.int8
        inside.management.cast_to_device = lambda weight, device, dtype, copy: weight.to(device, dtype, copy=copy)
        inside.comfy.lora.calculate_weight = lambda patches, weight, key: weight
        weights = inside.int8_weights(model)
    wish = "blocks.1.self_attn.comfy_attention.config"
    assert [name for name in weights if name.endswith(".config")] == [wish]
    assert bytes(weights[wish].tolist()) == b'{"attention": "comfy_kitchen_int8"}'


def test_the_oldest_host_gets_nothing_that_it_lacks(tmp_path):
    """Forbids a loader that calls 0.3.75 with arguments of 0.12."""
    host = fakes.Host(fakes.OLD, tmp_path)
    with host.pack() as package:
        model = package.nodes.compat.load_model(str(weights_folder() / DIT_FILE), None, "fp32")
        package.nodes.pocket_clip.load_pocket_clip()
    assert not model.disable_dynamic


def test_private_access_stays_in_one_place():
    """Forbids that a change of ComfyUI's insides has to be looked for in every node."""
    found, nodes = {}, fakes.ROOT / "nodes"
    for path in sorted(nodes.rglob("*.py")):
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module)
        place = path.relative_to(nodes).as_posix()
        found[place] = {name for name in names - PUBLIC if name.split(".")[0] in COMFYUI}
    private = {place for place, imports in found.items() if imports}
    assert {place for place in private if not place.startswith("compat/")} == set()
    assert {
        f"compat/{name}.py" for name in ("forward", "int8", "loading", "queued_prompt", "running", "server")
    } <= private


def test_the_list_of_what_adapts_comfyui_is_whole():
    """Forbids a module in nodes/compat that its table of contents does not name."""
    folder = fakes.ROOT / "nodes" / "compat"
    contents = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    named = {line.split()[0] for line in contents.splitlines() if line.startswith("    ") and line[4] != " "}
    assert named == {path.stem for path in folder.glob("*.py")} - {"__init__"}
