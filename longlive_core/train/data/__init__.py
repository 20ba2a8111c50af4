"""Training data: file formats, reproducible draws, and follow-up prompts.

- `prompt_files`: prompts and prompt pairs (.txt, .jsonl); `pair_file`: a .jsonl that grows and can be resumed.
- `clip_files`: clips as latents in safetensors files.
- `shuffling`: which items a rank draws at a step.
- `follow_ups`: instructions, answers and checks of follow-up prompts; `instruction_model`: the model that writes them.
"""
