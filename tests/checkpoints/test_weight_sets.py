"""Files in parts and in wrappers: shards, dictionaries in dictionaries, prefixes, and the choice between two sets."""

import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file

from longlive_core import cli
from longlive_core.checkpoints import convert_model, load_state_dict, load_vae
from longlive_core.checkpoints.text_encoder import TextEncoder, hugging_face_names
from longlive_core.train.settings import ConfigError, ModelFiles
from longlive_core.vae import WanVAE

from ..lora_files import diffusers
from .files import message, prefixed, same


@pytest.fixture(scope="module")
def average(weights):
    return {name: value + 1 for name, value in weights.items()}


# Wrappers


@pytest.mark.parametrize(
    "wrap",
    [
        lambda sd: {"state_dict": sd},
        lambda sd: {"model": sd},
        lambda sd: {"ema": sd},
        lambda sd: {"module": sd, "optimizer": {"state": {}}},
        lambda sd: {"state_dict": {"model": sd}, "epoch": 3},
        lambda sd: {"model": {"state_dict": {"module": sd}}},
        lambda sd: {"generator": {"state_dict": prefixed(sd, "model.")}},
        lambda sd: {"model_state_dict": sd, "optimizer_state_dict": {"state": {}}},
        lambda sd: {"ema": {"shadow_params": sd, "decay": 0.99}},
        lambda sd: prefixed(sd, "module."),
        lambda sd: prefixed(sd, "net."),
        lambda sd: prefixed(sd, "module.model."),
        lambda sd: prefixed(sd, "model.module.net."),
        lambda sd: prefixed(sd, "_orig_mod."),
        lambda sd: prefixed(sd, "module._orig_mod."),
        lambda sd: prefixed(sd, "_orig_mod.module._fsdp_wrapped_module.model."),
        lambda sd: prefixed(sd, "pipe.dit."),
        lambda sd: prefixed(sd, "model.model."),
        lambda sd: {"generator": prefixed(sd, "module._fsdp_wrapped_module.model.")},
    ],
)
def test_wrappers_are_taken_away(tmp_path, weights, wrap):
    """Forbids "no diffusion model" for the dictionaries that training code puts around weights, at any depth."""
    torch.save(wrap(weights), tmp_path / "model.pt")
    assert same(load_state_dict(tmp_path / "model.pt"), weights)


def test_two_models_under_prefixes_are_not_mixed(tmp_path, weights):
    """Forbids that one of two sets is loaded silently, or both."""
    save_file(
        {**prefixed(weights, "net."), **{n: w.clone() for n, w in prefixed(weights, "module.").items()}},
        tmp_path / "two.safetensors",
    )
    assert "holds 2 diffusion models under different prefixes (module., net.)" in message(
        load_state_dict, tmp_path / "two.safetensors"
    )


def test_wrapped_vaes(tmp_path):
    """Forbids that only transformers are unwrapped."""
    torch.manual_seed(0)
    vae = WanVAE(dim=4).state_dict()
    for content in ({"state_dict": vae}, prefixed(vae, "vae."), {"model": prefixed(vae, "module.")}):
        torch.save(content, tmp_path / "vae.pt")
        assert same(load_vae(tmp_path / "vae.pt").state_dict(), vae)


def diffusers_names(weights):
    """A model as diffusers saves it."""
    renamed = {}
    for name, value in weights.items():
        module, _, leaf = name.rpartition(".")
        if leaf == "modulation":
            renamed["scale_shift_table" if module == "head" else f"{module}.scale_shift_table"] = value
        elif "norm" in module:
            theirs = module.replace("norm3", "norm2").replace("self_attn", "attn1").replace("cross_attn", "attn2")
            renamed[f"{theirs}.{leaf}"] = value
        else:
            renamed[f"{module if module == 'patch_embedding' else diffusers(module)}.{leaf}"] = value
    return renamed


def test_diffusers_names_are_read(tmp_path, weights):
    """Forbids a refusal of the one publication of Wan 2.1 1.3B that comes in shards."""
    save_file(diffusers_names(weights), tmp_path / "model.safetensors")
    assert same(load_state_dict(tmp_path / "model.safetensors"), weights)
    save_file(prefixed(diffusers_names(weights), "transformer."), tmp_path / "model.safetensors")
    assert same(load_state_dict(tmp_path / "model.safetensors"), weights)


# Shards

STEM = "diffusion_pytorch_model"


def shards(folder, tensors, count=3, index=True):
    """Files `...-00001-of-00003.safetensors` and their index; -> the paths, the index last."""
    names, paths = sorted(tensors), []
    for number in range(count):
        paths.append(folder / f"{STEM}-{number + 1:05d}-of-{count:05d}.safetensors")
        save_file({name: tensors[name].clone() for name in names[number::count]}, paths[-1])
    if index:
        places = {name: paths[i % count].name for i, name in enumerate(names)}
        paths.append(folder / f"{STEM}.safetensors.index.json")
        paths[-1].write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}), encoding="utf-8")
    return paths


def test_one_shard_or_the_index_stands_for_all(tmp_path, weights):
    """Forbids "missing: 40 tensors" for a file that is a third of a model."""
    for path in shards(tmp_path, diffusers_names(weights)):
        assert same(load_state_dict(path), weights), path
    (tmp_path / f"{STEM}.safetensors.index.json").unlink()
    assert same(load_state_dict(tmp_path / f"{STEM}-00002-of-00003.safetensors"), weights)


def test_shards_of_pickles(tmp_path, weights):
    """Forbids that only safetensors may come in parts."""
    names = sorted(weights)
    for number in (1, 2):
        part = {name: weights[name] for name in names[number - 1 :: 2]}
        torch.save(part, tmp_path / f"model-0000{number}-of-00002.bin")
    assert same(load_state_dict(tmp_path / "model-00001-of-00002.bin"), weights)


def test_shards_that_are_missing_or_do_not_belong_together(tmp_path, weights):
    """Forbids a model of what happens to be there."""
    paths = shards(tmp_path, weights)
    save_file({"strange": torch.zeros(1)}, paths[1])
    assert "do not hold all that it lists: 23 (" in message(load_state_dict, paths[0])
    save_file(load_file(paths[0]), paths[1])
    assert "holds tensors that another shard holds too: 23 (" in message(load_state_dict, paths[0])
    paths[1].unlink()
    text = message(load_state_dict, paths[0])
    assert f"is number 1 of 3 files that belong together; missing: 1 ({paths[1].name})" in text
    assert f"Put all of them into {tmp_path}" in text
    assert f"is the index of 3 files; missing: 1 ({paths[1].name})" in message(load_state_dict, paths[-1])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read as one (JSONDecodeError)"),
        ('{"metadata": {}}', "cannot be read as one (KeyError)"),
        ('{"weight_map": {}}', "lists no files"),
        ('{"weight_map": {"a": "../../secret.safetensors"}}', "names files of other folders, which are not opened"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "names files of other folders"),
    ],
)
def test_an_index_that_cannot_be_used(tmp_path, content, words):
    """Forbids a traceback, and files that are opened because an index names them."""
    path = tmp_path / f"{STEM}.safetensors.index.json"
    path.write_text(content, encoding="utf-8")
    assert words in message(load_state_dict, path)


def test_folders_parts_and_indices_by_other_names(tmp_path, weights):
    """Forbids "is a folder" alone, "no diffusion model" for a shard that was renamed, and an index read as no index."""
    *parts, index = shards(tmp_path, weights)
    assert f"one of 3 ({parts[0].name}, " in message(load_state_dict, tmp_path)
    index.rename(tmp_path / "weights.json")
    assert same(load_state_dict(tmp_path / "weights.json"), weights)
    names = sorted(name for name in weights if name.startswith("blocks."))
    save_file({name: weights[name] for name in names}, tmp_path / "renamed.safetensors")
    assert "is a part of a Wan model: it holds 54 (" in message(load_state_dict, tmp_path / "renamed.safetensors")


def test_integers_in_vae_and_text_encoder(files, tmp_path):
    """Forbids PyTorch's words about gradients for files that were rounded to integers."""
    for name, load in (("vae", load_vae), ("text_encoder", TextEncoder.load)):
        path = tmp_path / f"{name}.safetensors"
        save_file({key: value.to(torch.int32) for key, value in load_file(files[name]).items()}, path)
        assert "has weights that are not of a floating-point type" in message(load, path)


def test_shards_are_converted_to_one_file(tmp_path, weights, capsys):
    """Forbids a conversion of a third, an output that overwrites another shard, and a hash of one shard."""
    paths = shards(tmp_path, diffusers_names(weights))
    target = convert_model(paths[0], tmp_path / "out.safetensors", dtype=None)
    assert same(load_file(target), weights)
    assert "the output is the input" in message(convert_model, paths[0], paths[1])
    assert cli.main(["check", "--model", str(paths[-1])]) == 1  # of text_dim 24
    assert f"{paths[-1]} (" in capsys.readouterr().out


# Two sets of weights


@pytest.fixture
def both(tmp_path, weights, average):
    path = tmp_path / "both.pt"
    torch.save({"generator": prefixed(weights, "model."), "generator_ema": prefixed(average, "model.")}, path)
    return path


@pytest.mark.parametrize(
    "wrap",
    [
        lambda one, other: {"generator": one, "generator_ema": other, "critic": one},
        lambda one, other: {"model": one, "ema": other},
        lambda one, other: {"state_dict": {"model": one, "ema_model": other}},
        lambda one, other: {**prefixed(one, "generator.model."), **prefixed(other, "generator_ema.model.")},
        lambda one, other: {**prefixed(one, "model."), **prefixed(other, "ema.")},
    ],
)
def test_either_set_can_be_chosen(tmp_path, weights, average, wrap):
    """Forbids a choice that works for one layout only, or in dictionaries only."""
    torch.save(wrap(weights, average), tmp_path / "model.pt")
    for choice, expected in ((None, weights), (False, weights), (True, average)):
        assert same(load_state_dict(tmp_path / "model.pt", prefer_ema=choice), expected)


def test_a_set_that_is_not_there_is_an_error_that_names_what_is(tmp_path, weights):
    """Forbids a silent substitute."""
    torch.save({"generator": weights, "critic": weights}, tmp_path / "one.pt")
    text = message(load_state_dict, tmp_path / "one.pt", prefer_ema=True)
    assert "has no `generator_ema`, which weights=generator_ema" in text and "it has 2 (critic, generator)" in text
    torch.save({"generator_ema": weights}, tmp_path / "one.pt")
    text = message(load_state_dict, tmp_path / "one.pt", prefer_ema=False)
    assert "has no `generator`" in text and "it has 1 (generator_ema)" in text
    save_file(weights, tmp_path / "plain.safetensors")
    for choice in (True, False):
        text = message(load_state_dict, tmp_path / "plain.safetensors", prefer_ema=choice)
        assert "it holds one set of weights; leave the choice at auto" in text


def test_what_is_taken_is_reported(both, caplog):
    """Forbids a choice without a warning."""
    caplog.set_level(logging.INFO)
    for choice, taken, level in ((None, "generator", "WARNING"), (True, "generator_ema", "INFO")):
        caplog.clear()
        load_state_dict(both, prefer_ema=choice)
        (record,) = caplog.records
        assert record.levelname == level and f"; {taken} is taken" in record.getMessage()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "weights"),
        (("--weights", "generator"), "weights"),
        (("--weights", "generator_ema"), "average"),
        (("--prefer-ema",), "average"),
    ],
)
def test_the_command_line_chooses(tmp_path, both, request, options, expected):
    """Forbids `convert` that knows no moving average."""
    target = tmp_path / "out.safetensors"
    assert cli.main(["convert", str(both), str(target), *options]) == 0
    wanted = request.getfixturevalue(expected)
    assert same(load_file(target), {name: value.bfloat16() for name, value in wanted.items()})


def test_choices_that_cannot_be(tmp_path, both, capsys):
    """Forbids that an option is dropped because another contradicts it, or because there is nothing it is of."""
    target = str(tmp_path / "out.safetensors")
    for options, words in (
        (("--weights", "generator", "--prefer-ema"), "ask for different sets"),
        (("--weights", "generator", "--lora"), "--weights needs a diffusion model"),
        (("--strength", "0.5", "--lora"), "--strength needs a diffusion model"),
        (("--strength", "0.5"), "--strength 0.5 is of a LoRA to merge"),
        (("--alpha", "8"), "--alpha 8 is a LoRA's"),
    ):
        assert cli.main(["convert", str(both), target, *options]) == 2
        assert words in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["convert", str(both), target, "--weights", "average"])
    assert "invalid choice: 'average'" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="models.teacher_weights 'ema': allowed are auto, generator, generator_ema"):
        ModelFiles(student="pocket", teacher_weights="ema")


def test_check_says_what_there_is_and_what_is_taken(both, capsys):
    """Forbids a look at one set without saying which."""
    cli.main(["check", "--model", str(both), "--weights", "generator_ema"])
    assert "the file holds generator, generator_ema: generator_ema is used (--weights)" in capsys.readouterr().out


def test_wrapped_text_encoders(files, tmp_path):
    """Forbids that a text encoder out of a training's file or a bundle is not known."""
    weights = load_file(files["text_encoder"])
    expected = hugging_face_names(weights)
    bundle = {**prefixed(weights, "text_encoders.umt5xxl.transformer."), "first_stage_model.x": torch.zeros(1)}
    for content in ({"state_dict": prefixed(weights, "module.")}, {"model": weights}, bundle):
        assert same(hugging_face_names(content), expected)
