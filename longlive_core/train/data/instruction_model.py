"""A local instruction model for `follow_ups`, with the tokenizer, chat template and `generate` of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from packaging.version import Version
from safetensors import SafetensorError
from torch import Tensor

from .follow_ups import Answer

TEMPERATURE, TOP_P = 0.7, 0.9  # high enough that another seed gives another answer
THOUGHT_BEGINS = "<think>"


class InstructionModel:
    """Answers instructions; the same batch and seed give the same answers on the same machine.

    Attributes:
        model, tokenizer: transformers' own.
        plain: prompt in plain text, without the tokenizer's chat template, and use the first line of the answer.
        max_tokens: maximum length of one answer, including thoughts.
    """

    def __init__(self, model, tokenizer, plain: bool = False, max_tokens: int = 512):
        if not plain and not tokenizer.chat_template:
            raise ValueError(
                f"the model '{tokenizer.name_or_path}' has no chat template, so it was probably not "
                "trained to follow instructions; choose an instruction model, or add --plain to prompt it in "
                "plain text"
            )
        self.model, self.tokenizer, self.plain, self.max_tokens = model, tokenizer, plain, max_tokens
        self.ends = _end_tokens(model, tokenizer)
        pad, known = tokenizer.pad_token_id, model.get_input_embeddings().num_embeddings
        if pad is None or pad >= known:  # unknown to the model with some tokenizers; the mask hides it
            tokenizer.pad_token = tokenizer.convert_ids_to_tokens(self.ends[0])

    @classmethod
    def load(
        cls, name: str, device: torch.device, dtype: torch.dtype, plain: bool = False, max_tokens: int = 512
    ) -> InstructionModel:
        """Load from a folder, or by name from the Hugging Face hub (may download); no code of the model is executed.

        ValueError if there is no such model, it is of another kind, or it has no chat template and `plain` is off.
        """
        import transformers

        _check_name(name)
        key = "dtype" if Version(transformers.__version__) >= Version("4.56") else "torch_dtype"
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            model, info = transformers.AutoModelForCausalLM.from_pretrained(
                name, trust_remote_code=False, output_loading_info=True, **{key: dtype}
            )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ValueError(
                f"cannot load the instruction model '{name}': {reason} (expected a folder, or a hub "
                "name, with config.json, weights and tokenizer of a causal language model)"
            ) from error
        if missing := sorted(info["missing_keys"]):  # transformers fills them with random numbers
            raise ValueError(
                f"the instruction model '{name}' lacks {len(missing)} of its weights, such as "
                f"'{missing[0]}'; download it again"
            )
        return cls(model.to(device).eval(), tokenizer, plain, max_tokens)

    def __call__(self, instructions: Sequence[str], seed: int) -> list[Answer]:
        """Return one answer per instruction."""
        texts = [self._text(instruction) for instruction in instructions]
        self.tokenizer.padding_side = "left"  # all answers begin at the same position
        given = self.tokenizer(
            texts, return_tensors="pt", padding=True, add_special_tokens=self.plain, return_token_type_ids=False
        ).to(self.model.device)
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with torch.random.fork_rng(devices):  # generate uses torch's global generators, which belong to the caller
            torch.manual_seed(seed)
            out = self.model.generate(
                **given,
                max_new_tokens=self.max_tokens,
                do_sample=True,
                temperature=TEMPERATURE,
                top_p=TOP_P,
                eos_token_id=self.ends,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        new = out[:, given["input_ids"].shape[1] :].cpu()
        return [self._answer(row, text) for row, text in zip(new, texts, strict=True)]

    def _text(self, instruction: str) -> str:
        if self.plain:
            return f"{instruction}\n\nNext description:"
        # A single user message: some templates reject a system message. Templates without enable_thinking ignore it.
        message = [{"role": "user", "content": instruction}]
        return self.tokenizer.apply_chat_template(
            message, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )

    def _answer(self, row: Tensor, prompt: str) -> Answer:
        finished = any(int(token) in self.ends for token in row)
        text = self.tokenizer.decode(row, skip_special_tokens=True)
        if self.plain:  # such a model continues with more descriptions up to the token limit
            line, rest, _ = text.lstrip().partition("\n")
            return Answer(line, finished or bool(rest))
        if prompt.rstrip().endswith(THOUGHT_BEGINS):  # the template opened the thought; restore its opening tag
            text = THOUGHT_BEGINS + text
        return Answer(text, finished)


def _end_tokens(model, tokenizer) -> list[int]:
    ends = model.generation_config.eos_token_id
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in ends:
        ends.append(tokenizer.eos_token_id)
    if not ends:
        raise ValueError(
            f"the model '{tokenizer.name_or_path}' defines no end-of-text token (eos_token_id), so no "
            "answer would ever be complete; set it in generation_config.json"
        )
    return ends


def _check_name(name: str) -> None:
    """Reject a missing folder here; the hub would be searched for it and report a missing repository."""
    if not Path(name).is_dir() and (name.startswith((".", "/", "~", "\\")) or name.count("/") > 1 or "\\" in name):
        raise ValueError(
            f"there is no folder '{name}'; pass a folder with an instruction model, or a name on the hub such "
            "as Qwen/Qwen2.5-7B-Instruct"
        )
