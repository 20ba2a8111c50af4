"""`python -m longlive_core follow-ups` and the model behind it, with real transformers and tiny models."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from longlive_core import cli
from longlive_core.train.data import instruction_model
from longlive_core.train.data.follow_ups import Answer
from longlive_core.train.data.instruction_model import InstructionModel
from longlive_core.train.data.prompt_files import read_prompts
from tests.train.writer import STORIES, TEMPLATE, random_model, save, taught, tokenizer_for

PANDA = "A panda walks through a snowy forest, filmed from the side."


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("taught"), *taught())


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("# three shots\n" + "\n".join(STORIES) + "\n", encoding="utf-8")
    return path


def run(capsys, *arguments):
    """(exit code, stdout, stderr)"""
    try:
        code = cli.main(["follow-ups", *map(str, arguments)])
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


@pytest.mark.slow
def test_from_prompts_to_pairs(capsys, tmp_path, prompts, model_folder):
    """Forbids padding that changes answers, prompts' tokens in them, and options that are parsed and dropped."""
    out = tmp_path / "pairs.jsonl"
    options = ["--model", model_folder, "--out", out, "--batch", "2", "--dtype", "fp32", "--device", "cpu"]
    code, out_text, err = run(capsys, prompts, *options, "--limit", "2")
    assert code == 0 and f"{out}: 2 pairs written, 0 prompts failed" in out_text, err
    assert "prompt/s" in err
    with out.open("a") as file:
        file.write('{"prompt": "An old m')
    code, _, err = run(capsys, prompts, *options)
    assert code == 2 and "exists already; add --resume" in err
    state = torch.random.get_rng_state()
    code, out_text, err = run(capsys, prompts, *options, "--resume")
    assert code == 0 and "1 pair written" in out_text and "2 pairs are already written" in err
    assert 'dropped the last line, which was cut off: \'{"prompt": "An old m\'' in err
    assert [json.loads(line) for line in out.read_text().splitlines()] == [
        {"prompt": prompt, "follow_up": follow_up} for prompt, follow_up in STORIES.items()
    ]
    assert torch.equal(state, torch.random.get_rng_state())
    code, out_text, _ = run(capsys, prompts, *options, "--resume", "--seed", "9")
    assert code == 0 and "0 pairs written, 0 prompts failed" in out_text


def test_a_model_that_writes_nonsense_ends_in_a_list_and_exit_code_1(capsys, tmp_path, prompts):
    """Forbids nonsense in the training's data, and an exit code that a script takes for success."""
    tokenizer = tokenizer_for(STORIES)
    folder, out = save(tmp_path / "model", tokenizer, random_model(tokenizer)), tmp_path / "pairs.jsonl"
    options = ["--model", folder, "--out", out, "--max-tokens", "16", "--attempts", "2"]
    code, out_text, err = run(capsys, prompts, *options)
    assert code == 1 and "0 pairs written, 3 prompts failed" in out_text
    assert all(f"prompt {number}, {prompt[:60]!r}: the answer" in err for number, prompt in enumerate(STORIES, 1))
    assert "again with --resume and another --seed" in err
    assert not out.exists()  # or the next try would be refused for an empty file


def test_a_seed_is_all_there_is_to_chance(tmp_path):
    """Forbids attempts that repeat themselves, and runs that cannot be repeated."""
    tokenizer = tokenizer_for(STORIES)
    ask = InstructionModel(random_model(tokenizer).eval(), tokenizer, max_tokens=8)
    first, again, other = (ask([PANDA, "A cat"], seed) for seed in (1, 1, 2))
    assert first == again != other


def test_no_chat_template_is_an_error_unless_plain_text_is_requested(capsys, tmp_path, prompts):
    """Forbids silently prompting a model in a form that it was not trained on."""
    tokenizer = tokenizer_for(STORIES, template=None)
    folder, out = save(tmp_path / "model", tokenizer, random_model(tokenizer)), tmp_path / "pairs.jsonl"
    options = ["--model", folder, "--out", out, "--max-tokens", "8", "--attempts", "1"]
    code, _, err = run(capsys, prompts, *options)
    assert code == 2 and "has no chat template" in err and "add --plain" in err and not out.exists()
    code, out_text, _ = run(capsys, prompts, *options, "--plain")
    assert code == 1 and "3 prompts failed" in out_text


class Echo:
    """A model that answers with the tokens given to it."""

    device = torch.device("cpu")

    def __init__(self, tokenizer, text):
        self.tokens = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        self.generation_config = type("Config", (), {"eos_token_id": tokenizer.eos_token_id})()
        self.get_input_embeddings = lambda: torch.nn.Embedding(len(tokenizer), 1)

    def generate(self, input_ids, attention_mask, **_):
        self.mask = attention_mask
        return torch.cat([input_ids, self.tokens.expand(len(input_ids), -1)], 1)


@pytest.mark.parametrize(
    ("template", "plain", "text", "wanted"),
    [
        (TEMPLATE, False, "a cat<|end|><|end|>", Answer("a cat", True)),
        (TEMPLATE, False, "a cat", Answer("a cat", False)),
        (TEMPLATE + "<think>\n", False, "a cat", Answer("<think>a cat", False)),
        (TEMPLATE + "<think>\n", False, "a </think> cat<|end|>", Answer("<think>a </think> cat", True)),
        (None, True, "\n a cat \n a dog", Answer("a cat ", True)),
        (None, True, " a cat", Answer("a cat", False)),
    ],
)
def test_where_an_answer_begins_and_ends(template, plain, text, wanted):
    """Forbids accepting incomplete answers, or thoughts as answers, and a base model's chatter after its first line."""
    tokenizer = tokenizer_for(["a cat \n </think> dog"], template)
    assert InstructionModel(Echo(tokenizer, text), tokenizer, plain)(["a dog"], 0) == [wanted]


def test_shorter_instructions_are_filled_up_in_front():
    """Forbids an answer that begins behind padding, which models were not trained on."""
    tokenizer = tokenizer_for([PANDA, "A cat"])
    assert tokenizer.pad_token is None
    model = Echo(tokenizer, "A cat<|end|>")
    InstructionModel(model, tokenizer)([PANDA, "A cat"], 0)
    assert model.mask[:, -1].all() and not model.mask[1, 0] and model.mask[0].all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.txt"], "cannot read the prompts 'none.txt'"),
        (["prompts.txt", "--model", "./none"], "there is no folder './none'; pass a folder with an instruction model"),
        (["prompts.txt", "--model", "."], "cannot load the instruction model '.': "),
        (["prompts.txt", "--out", "pairs.txt"], "'pairs.txt' must end in .jsonl"),
        (["prompts.txt", "--out", "none/pairs.jsonl"], "cannot write the pairs to 'none/pairs.jsonl'"),
        (["prompts.txt", "--batch", "0"], "'0' is not a whole number above 0"),
        (["prompts.txt", "--seed", "-1"], "'-1' is not a seed; allowed are 0 to"),
        (["prompts.txt", "--device", "banana"], "no device 'banana' here"),
    ],
)
def test_errors_end_in_one_line(capsys, tmp_path, monkeypatch, prompts, arguments, words):
    """Forbids tracebacks, files left behind, and a search on the hub for a folder that is missing."""
    monkeypatch.chdir(tmp_path)
    defaults = {"--model": "./none", "--out": "pairs.jsonl"}
    options = [part for name, value in defaults.items() if name not in arguments for part in (name, value)]
    code, out, err = run(capsys, *arguments, *options)
    assert code == 2 and not out and words in err and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["prompts.txt"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "words"), [("cut off", "cannot load the instruction model"), ("missing", "lacks 1 of its weights")]
)
def test_a_broken_download_is_reported(capsys, tmp_path, prompts, model_folder, fault, words):
    """Forbids a traceback for a file that breaks off, and random numbers in the place of weights that are missing."""
    folder = shutil.copytree(model_folder, tmp_path / "model")
    (file,) = folder.glob("*.safetensors")
    if fault == "cut off":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    else:
        weights = load_file(file)
        del weights[next(name for name in weights if "mlp" in name)]
        save_file(weights, file, metadata={"format": "pt"})
    code, _, err = run(capsys, prompts, "--model", folder, "--out", tmp_path / "pairs.jsonl", "--device", "cpu")
    assert code == 2 and words in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), 2, "lower --batch and add --resume: the 2 written pairs"),
        (KeyboardInterrupt(), 130, "holds 2 pairs; continue with --resume"),
    ],
)
def test_what_was_written_before_a_stop_stays(capsys, tmp_path, prompts, monkeypatch, error, code, words):
    """Forbids hours of answers lost with the batch that did not fit, and a stop that does not say how to resume."""
    calls = []

    def ask(instructions, seed):
        calls.append(seed)
        if len(calls) > 1:
            raise error
        return [Answer(STORIES[text.rsplit("Description: ", 1)[1]]) for text in instructions]

    monkeypatch.setattr(instruction_model.InstructionModel, "load", lambda *_: ask)
    out = tmp_path / "pairs.jsonl"
    got, _, err = run(capsys, prompts, "--model", "any", "--out", out, "--batch", "2")
    assert got == code and words in err and len(read_prompts(out)) == 2
