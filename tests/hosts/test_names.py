"""One name for a model in ComfyUI and on the command line; with stand-ins, `test_real_identity.py` has a real one."""

from functools import partial
from types import MethodType, SimpleNamespace

import pytest
import torch
from torch import nn

from longlive_core.config import StreamConfig
from longlive_core.model import CausalWan
from longlive_core.run.identity import text_identity, weights_identity
from longlive_core.run.pipeline import Pipeline
from longlive_core.run.render import film_run, render_film
from longlive_core.takes import TakeStore
from longlive_core.timeline import parse
from longlive_core.vae import StreamingDecoder

from ..studio import complete
from . import fakes
from .test_versions import CHUNKS, SHAPE, SIZE, TEXT, filming, host, parts  # noqa: F401 - fixtures

pytestmark = pytest.mark.slow

FP32 = torch.float32
PART, GUIDED = "diffusion_model.blocks.0.ffn.forward", "diffusion_model.blocks.0.cross_attn.forward"


@pytest.fixture
def names(tmp_path, parts):  # noqa: F811 - the fixture
    """(the names' module, a MODEL)."""
    with fakes.Host(fakes.OLD, tmp_path).pack() as package:
        yield package.nodes.compat.identity, parts[0]


def film_of(package, parts):  # noqa: F811
    """The same text encoder every time."""
    torch.manual_seed(5)
    return filming(package, parts)


def command_line(film, parts) -> tuple[Pipeline, dict]:  # noqa: F811
    """The same weights and settings as the command line has them; film: the sampler's."""
    contexts = film.timeline.contexts
    text = SimpleNamespace(model=film.timeline.clip.patcher.model)
    pipeline = Pipeline(
        CausalWan(parts[0].model.diffusion_model, SHAPE),
        StreamingDecoder(parts[1].first_stage_model),
        text,
        StreamConfig(),
        SIZE,
        torch.device("cpu"),
    )
    pipeline.encode = lambda texts: {text: contexts[text] for text in texts}
    stream = StreamConfig(window=6, denoising_steps=(1000, 500))
    plan = parse(TEXT).plan(5.0, 16)
    return pipeline, {
        "plan": plan,
        "store": TakeStore(film.store.folder),
        "timeline": TEXT,
        "stream": stream,
        "seed": 3,
        "size": SIZE,
        "model_name": "a model",
    }


def render_again(pipeline: Pipeline, run: dict, path) -> list[str]:
    found = film_run(pipeline, path=path, **run)
    render_film(found)
    return [found.reuse]


def test_a_film_of_the_command_line_continues_in_comfyui(host, parts, tmp_path):  # noqa: F811
    """Forbids rendering in ComfyUI what the command line rendered: here all of it, or its first chunks."""
    with host.pack() as package:
        pipeline, run = command_line(film_of(package, parts), parts)
        render_again(pipeline, run, tmp_path / "film.mp4")
        film = film_of(package, parts)
        assert complete(film.take) and not film.take.new
        for key in film.take.manifest.keys[4:]:
            film.store.latents_path(key).unlink()
        filmed = film_of(package, parts).run(keep_partial=True)
    assert filmed.report["rendered_chunks"] == CHUNKS - 4
    assert f"4 of {CHUNKS} chunks reused" in filmed.report["reused"]


def test_a_film_of_comfyui_continues_in_the_command_line(host, parts, tmp_path):  # noqa: F811
    """Forbids rendering on the command line what ComfyUI rendered."""
    with host.pack() as package:
        film = film_of(package, parts)
        film.run(keep_partial=True)
        pipeline, run = command_line(film, parts)
        for key in film.take.manifest.keys[6:]:
            film.store.latents_path(key).unlink()
        said = render_again(pipeline, run, tmp_path / "film.mp4")
    assert said[0] == f"take {film.take.id}: it was not finished: 6 of {CHUNKS} chunks reused"


def test_a_store_of_the_version_before_renders_nothing_again(host, parts):  # noqa: F811
    """Forbids losing films to the new names: with the same take, its units, and a name that is kept."""
    with host.pack() as package:
        film = film_of(package, parts)
        film.store.remove(film.take.id)
        origin = film.host.origin(film.film_run.request.stream, SIZE, film.film_run.request.seed)
        old, old_vae = origin.aliases[0], package.nodes.compat.identity.vae_identity(parts[1], 4).aliases[0]
        plan = package.longlive_core.takes.plan_take
        take = plan(film.store, TEXT, film.take.plan, old, film.take.encoding, old_vae)
        film.store.write_manifest(take.manifest)
        film.film_run.take = take
        film.run(keep_partial=True)  # under the names of before
        again = film_of(package, parts)
        report = again.run(keep_partial=True).report
    assert old.model != origin.model and old.text_encoder != origin.text_encoder
    assert (again.take.id, again.take.manifest.unit) == (take.id, take.manifest.unit)
    assert report["rendered_chunks"] == 0 and report["take"] == take.id


def test_a_name_stays_with_the_weights(names):
    """Forbids another name after a cast that nothing tells of."""
    module, model = names
    before = module.model_identity(model, FP32)
    assert before == weights_identity(model.model.diffusion_model, FP32)
    model.model.diffusion_model.to(torch.float16)
    assert module.model_identity(model, FP32) == before
    assert module.model_identity(model, torch.bfloat16) != before


def test_weights_of_other_libraries_are_named_by_what_they_hold(names):
    """Forbids an error, or one name for all, if a weight is a tensor that consists of tensors."""
    from torch.testing._internal.two_tensor import TwoTensor

    module, model = names
    seen = set()
    for value in (1.0, 1.0, 2.0):
        layer = model.model.diffusion_model.head.head
        numbers = torch.full(layer.weight.shape, value)
        layer.weight = nn.Parameter(TwoTensor(numbers, numbers), requires_grad=False)
        module._names.clear()
        seen.add(module.model_identity(model, FP32))
    assert len(seen) == 2


def override(scale: float, counted: nn.Module):
    """An attention as node packs write them: settings in a closure, among things that change."""
    settings = {"scale": scale}

    def attention(function, *given, **options):
        return function(*given, **options) * settings["scale"] + counted.calls

    return attention


class Setting:
    def __init__(self, strength: float):
        self.strength, self.calls = strength, object()

    def forward(self, x):
        return x


class Guidance:
    """As KJNodes' WanVideoNAG keeps its settings: in the closure of a method that is put on each block."""

    def __init__(self, scale: float):
        self.nag_context, self.nag_scale, self.nag_alpha, self.nag_tau = torch.ones(1, 3, 4), scale, 0.25, 2.5

    def on(self, module: nn.Module):
        def forward(module, *given):
            return self.nag_scale

        return MethodType(forward, module)


def test_what_is_hung_on_a_model_counts_by_what_it_does(names):
    """Forbids one name for two settings of a node, and another name for the same setting created again."""
    module, model = names
    name = partial(module.model_identity, model, FP32)
    plain, seen = name(), set()
    for hang in (
        lambda value: model.model_options.update(
            transformer_options={"optimized_attention_override": override(value, nn.Module())}
        ),
        lambda value: model.object_patches.update({PART: Setting(value).forward}),
        lambda value: model.object_patches.update({PART: partial(print, value)}),
        lambda value: model.object_patches.update({GUIDED: Guidance(value).on(nn.Module())}),
        lambda value: setattr(model, "injections", {"bypass": [SimpleNamespace(inject=Setting(value).forward)]}),
        lambda value: setattr(model, "weight_wrapper_patches", {"diffusion_model.head": [Setting(value).forward]}),
    ):
        hang(1.0)
        one, _ = name(), hang(1.0)
        assert name() == one and one not in (plain, *seen)
        hang(2.0)
        assert name() not in (one, plain)
        seen |= {one, name()}


def test_what_changes_no_film_changes_no_name(names):
    """Forbids rendering again for what the report says has no effect, or because blocks are compiled."""
    module, model = names
    plain = module.model_identity(model, FP32)
    model.object_patches = {
        "model_sampling": Setting(8.0),
        "manual_cast_dtype": torch.bfloat16,
        "diffusion_model.blocks.0": SimpleNamespace(_orig_mod=nn.Module()),
        "diffusion_model.blocks.0.self_attn.forward": Setting(8.0).forward,
    }
    model.model_options = {"transformer_options": {"patches_replace": {"dit": {}}, "cond_or_uncond": [0]}}
    assert module.model_identity(model, FP32) == plain


def test_a_text_encoders_settings_count(names):
    """Forbids reusing films whose prompts were read otherwise."""
    module, _ = names
    clip = SimpleNamespace(patcher=fakes.Patcher(nn.Linear(2, 2)), layer_idx=None, tokenizer_options={})
    plain = module.clip_identity(clip)
    assert plain == text_identity(clip.patcher.model)
    for change in ({"layer_idx": -2}, {"tokenizer_options": {"umt5xxl_min_length": 8}}):
        assert module.clip_identity(SimpleNamespace(**{**vars(clip), **change})) != plain
