"""The text encoder: three namings of one network, the paper's numbers, and a tokenizer that is found or requested."""

import io
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from longlive_core.checkpoints import CheckpointError, text_encoder
from longlive_core.checkpoints.text_encoder import (
    TextEncoder,
    build_encoder,
    clean,
    describe_cut,
    encode_ids,
    hugging_face_names,
)
from longlive_core.engine.prompts import prompt_spans
from longlive_core.timeline import parse

RECORDING = Path(__file__).parents[1] / "fidelity" / "umt5.safetensors"
WORDS = ["a", "red", "ball", "rolls", "over", "grass"]


@pytest.fixture(scope="module")
def recording():
    with safe_open(RECORDING, "pt") as file:
        return load_file(RECORDING), json.loads(file.metadata()["config"])


@pytest.fixture(scope="module")
def wan_weights(recording):
    """Wan's own names."""
    return {name.removeprefix("t5."): tensor for name, tensor in recording[0].items() if name.startswith("t5.")}


@pytest.fixture(scope="module")
def hf_weights(wan_weights):
    return hugging_face_names(wan_weights)


@pytest.fixture
def tokenizer_json(tmp_path):
    """A word-level tokenizer whose own template ends a text with </s>, in the file format of `tokenizers`."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture(scope="module")
def sentencepiece_model():
    """Bytes of a tiny sentencepiece model with UMT5's special ids."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    out = io.BytesIO()
    lines = [" ".join(WORDS)] * 20 + WORDS * 5
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=out,
        vocab_size=24,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return out.getvalue()


def test_the_encoder_agrees_with_the_papers(recording):
    """Forbids another position bias, activation, norm or mask than Wan's UMT5; checked against its recorded output."""
    tensors, config = recording
    assert (text_encoder.replay_umt5(tensors, config)["context"] - tensors["context"]).abs().max() <= 1e-4


def test_a_recording_that_contradicts_itself_is_refused(recording):
    """Forbids guessing the number of heads from shapes while the recording says otherwise."""
    tensors, config = recording
    with pytest.raises(CheckpointError, match="its config says"):
        text_encoder.replay_umt5(tensors, {**config, "num_heads": 2})


def test_padding_is_zero_and_changes_nothing(recording, hf_weights):
    """Forbids vectors in the padding, and attention to it: more padding gives the same vectors."""
    tensors, _ = recording
    model = build_encoder(hf_weights)
    ids, mask = tensors["ids"][:1, :12], tensors["mask"][:1, :12].clone()
    mask[:, 7:] = 0
    short = encode_ids(model, ids, mask)
    assert short.shape == (1, 12, 40) and not short[:, 7:].any() and short[:, :7].any()
    longer = encode_ids(model, torch.nn.functional.pad(ids, (0, 8), value=5), torch.nn.functional.pad(mask, (0, 8)))
    torch.testing.assert_close(longer[:, :12], short)


def test_all_namings_are_one_network(tmp_path, wan_weights, hf_weights, tokenizer_json):
    """Forbids a swapped pair in the table of names, and files that load only as one publisher wrote them."""
    torch.save(wan_weights, tmp_path / "models_t5_umt5-xxl-enc-bf16.pth")
    save_file(hf_weights, tmp_path / "shared.safetensors")
    whole = {
        **hf_weights,
        "encoder.embed_tokens.weight": hf_weights["shared.weight"].clone(),
        "lm_head.weight": torch.zeros(2),
        "decoder.block.0.x": torch.zeros(2),
    }
    save_file(whole, tmp_path / "whole.safetensors")
    only_twin = {name.replace("shared.", "encoder.embed_tokens."): tensor for name, tensor in hf_weights.items()}
    save_file(only_twin, tmp_path / "twin.safetensors")
    names = ["models_t5_umt5-xxl-enc-bf16.pth", "shared.safetensors", "whole.safetensors", "twin.safetensors"]
    contexts = [TextEncoder.load(tmp_path / name).encode(["a red ball"]) for name in names]
    assert all(torch.equal(context, contexts[0]) for context in contexts)


def test_contexts_have_wans_shape(tmp_path, hf_weights, tokenizer_json):
    """Forbids a context the model's text embedding cannot take, and one that depends on its neighbours."""
    save_file(hf_weights, tmp_path / "t.safetensors")
    encoder = TextEncoder.load(tmp_path / "t.safetensors")
    both = encoder.encode(["a red ball", "grass  \n over\ta ball rolls"])
    assert both.shape == (2, 512, 4096) and both.dtype == torch.float32
    assert both[0, :4].any() and not both[0, 4:].any(), "three words and </s>"
    assert not both[:, :, 40:].any(), "the encoder is 40 wide, the rest is padding"
    assert torch.equal(both[1:], encoder.encode(["grass over a ball rolls"]))
    assert encoder.encode([]).shape == (0, 512, 4096)


def test_metadata_gives_length_and_configuration(tmp_path, hf_weights, tokenizer_json):
    """Forbids that the built-in encoder runs with 512 tokens or without its own constants."""
    stated = {"relative_attention_max_distance": 8, "model_type": "umt5", "is_encoder_decoder": True, "dtype": None}
    save_file(hf_weights, tmp_path / "t.safetensors", {"config": json.dumps(stated), "text_len": "6"})
    encoder = TextEncoder.load(tmp_path / "t.safetensors")
    assert encoder.encode(["a"]).shape == (1, 6, 4096)
    assert encoder.model.config.relative_attention_max_distance == 8
    assert encoder.model.config.is_encoder_decoder is False, "only what shapes do not tell is taken over"


def test_long_prompts_are_cut_with_a_warning(tmp_path, hf_weights, tokenizer_json, caplog):
    """Forbids a cut without </s> (the paper's tokenizer keeps it) and a silent one."""
    save_file(hf_weights, tmp_path / "t.safetensors", {"text_len": "4"})
    encoder = TextEncoder.load(tmp_path / "t.safetensors")
    ids, mask = encoder.tokenize(["a red ball"])
    assert ids.tolist() == [[3, 4, 5, 1]] and mask.sum() == 4 and not caplog.records
    ids, mask = encoder.tokenize(["a red ball rolls over grass"])
    assert ids.tolist() == [[3, 4, 5, 1]]
    message = "the prompt 'a red ball rolls over grass...' has 7 tokens, of which the text encoder takes 4: it is cut "
    assert caplog.messages == [message + "before word 4, 'rolls over grass'; make it shorter, or split it"]
    encoder.tokenize(["a red ball rolls over grass"])
    assert encoder.cuts(["a red ball", "a red ball " * 2])[0].endswith(
        "cut before word 4, 'a red ball'; make it shorter, or split it"
    )
    encoder.tokenize(["a red ball " * 2])
    assert len(caplog.messages) == 1, "once for each prompt"


def test_the_place_of_the_cut_is_reported(tmp_path):
    """Forbids a word that is still read, or one behind the first that is not."""
    assert describe_cut("one two three", lambda text: len(text.split()) + 1, 4) is None
    assert "before word 3, 'three'" in describe_cut("one two three", lambda text: len(text.split()) + 1, 3)
    assert "before word 3, 'three'" in describe_cut("one two three", lambda text: len(text) // 3 + 1, 4), (
        "within the word"
    )
    long = "\u96ea" * 100
    message = describe_cut(long, lambda text: len(text) + 1, 41)
    assert (
        f"has 101 tokens, of which the text encoder takes 41: it is cut before letter 41, '{long[:30]}...'" in message
    )


def test_prompts_of_other_lengths_blend_and_none_is_longer_than_the_model_knows():
    """Forbids an error about sizes where ComfyUI's tokenizer cuts nothing, and a prompt's end that is not blended."""
    lengths = {"short": 5, "long": 512, "longer": 700}
    plan = parse("0s short\n3s longer {blend=2s}\n9s long {blend=2s}").plan(15)
    spans = prompt_spans(plan.prompts, lambda text: torch.full((1, lengths[text], 8), float(lengths[text])))
    assert {span.context.shape[1] for span in spans} == {5, 512}
    mixed = spans[1].context
    weight = dict(plan.prompts[1].mix)
    assert torch.allclose(mixed[0, 3], torch.tensor(weight["short"] * 5 + weight["longer"] * 700.0))
    assert torch.allclose(mixed[0, 511], torch.tensor(weight["longer"] * 700.0))


def test_the_tokenizer_inside_comfyuis_file(tmp_path, hf_weights, sentencepiece_model):
    """Forbids that ComfyUI's single file needs anything beside it, and an encoder fed without </s>."""
    spiece = torch.frombuffer(bytearray(sentencepiece_model), dtype=torch.uint8)
    save_file({**hf_weights, "spiece_model": spiece}, tmp_path / "umt5_xxl_fp16.safetensors")
    encoder = TextEncoder.load(tmp_path / "umt5_xxl_fp16.safetensors")
    ids, mask = encoder.tokenize(["a red ball"])
    length = int(mask.sum())
    assert ids[0, length - 1] == 1 and not ids[0, length:].any()
    assert len(encoder.tokenizer("a red ball", 3)[0]) == 3 and encoder.tokenizer("a red ball", 3)[0][-1] == 1


@pytest.mark.parametrize("folder", [".", "google/umt5-xxl", "tokenizer"])
def test_a_tokenizer_beside_the_file_is_found(tmp_path, wan_weights, sentencepiece_model, folder):
    """Forbids that Wan's own download (tokenizer in google/umt5-xxl) has to be rearranged."""
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / folder / "spiece.model").write_bytes(sentencepiece_model)
    torch.save(wan_weights, tmp_path / "t5.pth")
    assert TextEncoder.load(tmp_path / "t5.pth").encode(["a ball"]).any()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    torch.save(wan_weights, elsewhere / "t5.pth")
    with pytest.raises(CheckpointError, match="google/umt5-xxl"):
        TextEncoder.load(elsewhere / "t5.pth")
    assert TextEncoder.load(elsewhere / "t5.pth", tokenizer=tmp_path / folder).encode(["a ball"]).any()


def test_a_tokenizer_of_another_encoder_is_refused(tmp_path, hf_weights, tokenizer_json):
    """Forbids an index error inside the embedding."""
    small = {**hf_weights, "shared.weight": hf_weights["shared.weight"][:4].clone()}
    save_file(small, tmp_path / "t.safetensors")
    with pytest.raises(CheckpointError, match="does not belong to this text encoder: it returns the id 5"):
        TextEncoder.load(tmp_path / "t.safetensors").encode(["a red ball"])


def test_float16_files_run_in_bfloat16(hf_weights):
    """Forbids float16, in which umt5-xxl overflows."""
    half = {name: tensor.half() for name, tensor in hf_weights.items()}
    assert {p.dtype for p in build_encoder(half).parameters()} == {torch.bfloat16}
    assert {p.dtype for p in build_encoder(half, dtype=torch.float32).parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["decoder.middle.0.residual.0.gamma"], "models/vae"),
        (["text_model.encoder.layers.0.mlp.fc1.weight"], "CLIP"),
        (["strange"], "something else; it holds 1 (strange)"),
        (["shared.weight", "encoder.block.0.layer.0.SelfAttention.q.scale_weight"], "quantised"),
        (["shared.weight"], "lacks 3"),
    ],
)
def test_other_files_say_what_they_are(tmp_path, names, expected):
    """Forbids a KeyError or missing keys for a file in the text encoder's slot."""
    save_file({name: torch.zeros(2, 2) for name in names}, tmp_path / "t.safetensors")
    with pytest.raises(CheckpointError) as error:
        TextEncoder.load(tmp_path / "t.safetensors")
    assert expected in str(error.value)


def test_incomplete_encoders_and_t5_are_named(hf_weights):
    """Forbids a random layer for a missing tensor, and T5 (one position bias for all layers) treated as UMT5."""
    norm = "encoder.block.2.layer.1.layer_norm.weight"
    with pytest.raises(CheckpointError, match="missing: 1 .*block.2.layer.1.layer_norm"):
        build_encoder({name: tensor for name, tensor in hf_weights.items() if name != norm})
    bias = "relative_attention_bias"
    t5 = {name: tensor for name, tensor in hf_weights.items() if bias not in name or ".block.0." in name}
    with pytest.raises(CheckpointError, match="T5 encoder, not UMT5"):
        build_encoder(t5)


def test_cleaning_leaves_single_blanks():
    """Forbids that line breaks of a text box change an embedding."""
    assert clean("  a\tred\n\nball ") == "a red ball"
