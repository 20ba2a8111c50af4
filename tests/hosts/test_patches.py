"""What users' nodes hang on a MODEL, VAE or CLIP is honoured, or named as having no effect: with a real ComfyUI."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.harness.server import ROOT, comfyui_path

from . import fakes
from .test_versions import filming, new_host, parts  # noqa: F401 - fixtures

pytestmark = pytest.mark.slow

INSIDE = Path(__file__).with_name("inside_patches.py")
ROUNDING = 2e-6  # relative, in float32
SEEN = 1e-3  # relative; less than anything here does that has an effect

WITHOUT_EFFECT = {
    "shift": ["part model_sampling ModelSamplingAdvanced: .* set its shift"],
    "cfg": ["option sampler_cfg_function RescaleCFG: there is no CFG here"],
    "cfg zero": ["option sampler_post_cfg_function CFGZeroStar: there is no CFG here"],
    "skipped layers": ["option sampler_post_cfg_function SkipLayerGuidanceDiT: there is no CFG here"],
    "easy cache": [
        "transformer option easycache: it skips",
        *(
            f"wrapper {place} easycache .*: it skips"
            for place in ("outer_sample", "calc_cond_batch", "diffusion_model")
        ),
    ],
    "lazy cache": [
        "transformer option easycache: it skips",
        *(f"wrapper {place} lazycache .*: it skips" for place in ("outer_sample", "predict_noise")),
    ],
    "rotary": ["transformer option rope_options: .* set positions"],
    "context windows": [
        f"{place}.*window and sink" for place in ("option context_handler ", "wrapper prepare_sampling Context")
    ],
    "wrapping": [
        "part latent_format .*this pack renders with its own forward",
        "option model_function_wrapper .*TeaCache",
        "option my_option: it is not used here",
        "transformer option patches attn1_patch .*this pack renders with its own forward",
        "transformer option my_weight: it is passed to attention overrides only",
        "wrapper outer_sample my_pack .*this pack renders with its own forward",
        "callback on_prepare_state .*own samplers",
    ],
}


@pytest.fixture(scope="module")
def facts():
    """What `inside_patches.py` found."""
    folder = comfyui_path()
    if folder is None:
        pytest.skip("there is no ComfyUI: run scripts/setup, or set COMFYUI_PATH")
    environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(
        [sys.executable, str(INSIDE), str(folder), str(ROOT)],
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


def lines_match(lines, patterns) -> bool:
    return len(lines) == len(patterns) and all(map(re.search, patterns, lines))


@pytest.mark.parametrize("way", ["whole", "blocks", "parts", "lora", "int8"])
def test_compiled_blocks_are_honoured(facts, way):
    """Forbids a MODEL whose compiler is dropped, another film, and graphs by layer: the blocks share their stages'."""
    compiled = facts["compiled"][way]
    # Three stages, for a chunk and for the longer recache; newer ComfyUIs' own INT8 layers may break a graph.
    assert compiled["graphs"] == 6 or (way == "int8" and 6 <= compiled["graphs"] <= 20)
    assert compiled["apart"] <= ROUNDING
    assert compiled["without"] == []
    assert [line for line in compiled["honoured"] if line.startswith("torch.compile (")]


def test_a_compiler_that_fails_says_so(facts):
    """Forbids a failing compiler that is passed over, or whose error does not say what to do."""
    error = facts["compiled"]["failing"]
    assert error.startswith("torch.compile (failing) failed") and "no kernel for this card" in error
    assert "remove" in error
    assert facts["compiled"]["eager backend"]["apart"] <= ROUNDING
    assert facts["compiled"]["uncompiled again"] == 0


def test_every_kind_of_lora(facts):
    """Forbids a LoRA in bypass mode that is dropped, one that stays, and a scheduled one that is not reported."""
    loras = facts["loras"]
    assert loras["changes"] > SEEN and loras["bypass"] < ROUNDING and loras["after"] == 0
    assert loras["bypass honoured"] == ["injection bypass_lora"]
    assert loras["lora honoured"] == ["patched weights (LoRAs, merges): 2"]
    assert loras["scheduled"] == 0
    assert lines_match(loras["scheduled without"], ["hooks of the MODEL.*use a LoRA loader"])


def test_attention_is_the_users(facts):
    """Forbids an override that is not called, or without the number of the block, and run-time patches of ComfyUI's
    module."""
    attention = facts["attention"]
    assert attention["seen"] == [[0, 2, 2, 3], [1, 2, 2, 3]]
    assert attention["changes"] > SEEN and attention["same"] == 0 and attention["restored"]
    assert [line.split()[0] for line in attention["honoured"]] == ["attention", "callback", "callback"]
    assert attention["without"] == []


def test_attention_preferences_go_along(facts):
    """Forbids that what a file prefers is lost on newer versions, and None given to those that know no such thing."""
    assert facts["attention"]["preferred"] == ["None", "self"]


@pytest.mark.parametrize("strength", ["strong", "limited", "none"])
def test_a_negative_prompt_by_attention_guidance(facts, strength):
    """Forbids WanVideoNAG that is dropped, or that does something else than its own forward of cross-attention."""
    guided = facts["guided"][strength]
    assert guided["apart"] < ROUNDING
    assert guided["film"] > SEEN if strength != "none" else guided["film"] == 0
    assert guided["honoured"] == ["WanVideoNAG (2 times)"] and guided["without"] == []


def test_other_forwards_of_attention_are_named(facts):
    """Forbids a prompt relay that is dropped silently, and lines about what another MODEL had attached."""
    guided = facts["guided"]
    name = r"part diffusion_model.blocks.\*"
    assert guided["relay"]["film"] == guided["self"]["film"] == 0
    assert lines_match(guided["relay"]["without"], [rf"{name}.cross_attn.forward .*\(2 times\): .*Prompt Timeline"])
    assert lines_match(guided["self"]["without"], [rf"{name}.self_attn.forward .*\(2 times\): .*use-sage-attention"])
    assert guided["gone"] == []
    assert lines_match(guided["on the spot"], [rf"{name}.forward "])


def test_only_parts_with_an_effect_name_a_film(facts):
    """Forbids films that are rendered again for what has no effect, and reused where something changed."""
    named = facts["guided"]["parts"]
    assert named["guided"] == [f"diffusion_model.blocks.{layer}.cross_attn.forward" for layer in range(2)]
    assert named["relay"] == named["compiled"] == []


def test_int8_takes_over_what_is_bound_to_no_weight(facts):
    """Forbids Quantize INT8 that refuses attention preferences (0.40), or treats compiled parts as such."""
    refused = facts["refused"]
    assert refused["quantised"] == ["diffusion_model.blocks.0.self_attn.comfy_attention"]
    assert "compiled blocks" in refused["quantised compiled"] and refused["prefers"] == []


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_what_has_no_effect_is_named(facts, name):
    """Forbids a node of ComfyUI's or a pack's that is dropped silently, or named although it has an effect."""
    found = facts["without"][name]
    assert found["apart"] == 0
    assert lines_match(found["without"], WITHOUT_EFFECT[name]), found["without"]


def test_clip_and_vae(facts):
    """Forbids a setting of the text encoder or the VAE that is dropped silently."""
    found = facts["clip and vae"]
    assert lines_match(found["hooks"], ["hooks of the CLIP: .*LoRA loader", "schedule of the CLIP: "])
    assert lines_match(found["last"], ["CLIP of the pocket model: skipped layers"])
    assert lines_match(found["vae"], ["VAE part decoder torch.compile: .*layers"])
    assert found["plain"] == []


def test_what_cannot_be_run_is_refused(facts):
    """Forbids a film from parts that the forward cannot drive, and a bare AttributeError where a loader found none."""
    refused = facts["refused"]
    assert refused["layer"] == [] and refused["decoder.head.0"] is None
    assert "blocks.1 was replaced by a Linear" in refused["block"] and "remove" in refused["block"]
    for name in ("decoder.conv1", "decoder.middle.0"):
        assert f"the VAE's {name} was replaced by a Identity" in refused[name]
    assert lines_match(refused["vae without"], [r"VAE part decoder.middle.\*.forward print: .*one by one"])
    assert refused["none"].startswith("there is no VAE and no CLIP: ")


def test_the_report_names_what_has_no_effect(new_host, parts):  # noqa: F811
    """Forbids that it is known and not reported: neither under the node while it renders, nor in its report."""
    model, vae = parts
    model.model_options = {"sampler_cfg_function": max, "transformer_options": {}}
    run = []
    model.callbacks = {
        "on_pre_run": {None: [lambda _: run.append("on")]},
        "on_cleanup": {None: [lambda _: run.append("off")]},
    }
    with new_host.pack() as package:
        said = []
        package.nodes.progress.Watcher.report = lambda watcher, text: said.append(text)
        filmed = filming(package, parts).run(keep_partial=True)
        assert run == ["on", "off"]
    (line,) = filmed.report["no_effect"]
    assert line.startswith("option sampler_cfg_function max: there is no CFG here")
    assert f"no effect here: {line}" in said[0].splitlines()
    assert [name.split()[1] for name in filmed.report["honoured"]] == ["on_pre_run", "on_cleanup"]


def test_rules_know_the_layers_that_are_called():
    """Forbids a table that drifts from the forward: every module of a block is either called or a container."""
    with fakes.Host(fakes.NEW, Path()).pack() as package:
        patches, core = package.nodes.compat.patches, package.longlive_core
        module = core.model.WanModel(core.config.ModelConfig(dim=12, ffn_dim=8, num_heads=2, num_layers=1, text_dim=4))
        containers = {"", "blocks", "blocks.0", "blocks.0.self_attn", "blocks.0.cross_attn", "head"}
        for name, _ in module.named_modules():
            judged = patches.reason_without_effect(f"part diffusion_model.{name}".replace(".0", ".*"))
            assert (judged is None) is (name not in containers), name
