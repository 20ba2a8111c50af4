"""Tiny instruction models for the tests: real transformers, real files, no download."""

import functools

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from longlive_core.train.data.follow_ups import instruction_for

TEMPLATE = (
    "{% for message in messages %}<|begin|>{{ message.role }}\n{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|begin|>assistant\n{% endif %}"
)
CAT = "on a wooden chair in a sunny kitchen, filmed from the side."
MAN = "a newspaper on a park bench in autumn."
BOAT = "on a calm lake at dawn, seen from above."
STORIES = {
    f"A grey cat sleeps {CAT}": f"A grey cat stretches {CAT}",
    f"A small boat drifts {BOAT}": f"A small boat drifts beside a white swan {BOAT}",
    f"An old man reads {MAN}": f"An old man folds {MAN}",
}


def tokenizer_for(texts, template=TEMPLATE):
    """Words and spaces, each a token; what is not in `texts` is unknown."""
    split = pre_tokenizers.Split(" ", "isolated")
    words = sorted({word for text in texts for word, _ in split.pre_tokenize_str(text)})
    special = ["<|unknown|>", "<|begin|>", "<|end|>"]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*special, *words])}, unk_token=special[0]))
    inner.pre_tokenizer, inner.decoder = split, decoders.Fuse()
    outer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|end|>", unk_token="<|unknown|>", additional_special_tokens=["<|begin|>"]
    )
    outer.chat_template = template
    return outer


def random_model(tokenizer):
    """Llama of two layers with random weights."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=1024,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    )


@functools.cache
def taught():
    """A tokenizer and a model that has learned by heart what to answer for each of STORIES."""
    tokenizer = tokenizer_for([*STORIES, *STORIES.values()])
    model = random_model(tokenizer)
    examples = []
    for prompt, answer in STORIES.items():
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": instruction_for(prompt)}], tokenize=False, add_generation_prompt=True
        )
        before = tokenizer(asked, return_tensors="pt")["input_ids"]
        after = tokenizer(answer + "<|end|>", return_tensors="pt")["input_ids"]
        examples.append((torch.cat([before, after], 1), torch.cat([torch.full_like(before, -100), after], 1)))
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(400):
        losses = [model(input_ids=ids, labels=labels).loss for ids, labels in examples]
        sum(losses).backward()
        adam.step()
        adam.zero_grad()
        if max(loss.item() for loss in losses) < 0.005:
            break
    else:
        raise AssertionError("the model has not learned its answers")
    return tokenizer, model.eval()


def save(folder, tokenizer, model):
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return str(folder)
