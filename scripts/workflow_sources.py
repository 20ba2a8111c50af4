"""Contents of the shipped workflows: files, sizes, timelines and notes, for the pocket model and LongLive."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WorkflowSource:
    """A model for the shipped workflows, with timelines and settings that suit it.

    Attributes:
        suffix: of the workflows' names. load: the inputs of Load LongLive.
        seconds: length of a short film. texts: timelines by their purpose.
        loaders: file names for ComfyUI's own loaders; without a text encoder, Load LongLive gives the CLIP.
        branch: where to branch off a film of that length.
        lora: file name of a user's LoRA. notes: Markdown by workflow, "" for all others.
    """

    suffix: str
    load: dict[str, str]
    seconds: float
    branch: str
    texts: dict[str, str]
    loaders: dict[str, str]
    lora: str
    notes: dict[str, str]


# Notes of the workflows with takes; the same for both models, except for the prompt in the last.
RESUME = (
    "**Queue** it, and **Cancel** half way: with *on_cancel* at `keep partial` the film so far is saved. "
    "**Queue again**: it resumes where it stopped. **Edit the last prompt** and queue again: only that prompt's chunks "
    "are rendered. Nothing is rendered twice, even after a crash; the report under the sampler shows how many chunks "
    "were reused, and why the others were not."
)
EXTEND = (
    "The first sampler's **TAKE** is connected to the second, whose timeline counts from the end of the first. The "
    "film continues from the latents, without a seam; if you change the second timeline, the first film is not "
    "rendered again. The second sampler may have another seed, LoRA or INT8. End the first prompt with `{cut}`, "
    "`{keep}` or `{blend=2s}` to choose the transition.\n\n**Take Frames** outputs the last second of the film; its "
    "last frame is saved as a picture."
)
BRANCH = (
    "**Branch Take** keeps a take up to a time, and two films continue from there in different ways: one in the same "
    "shot, one with a `{cut}`. They share the chunks of their beginning: nothing is copied or rendered twice. To use a "
    "take of an earlier day, replace the first sampler by **Load Take**."
)
LIVE = (
    "With *duration* at `0` the film has no end. **Queue** it: the film so far plays under the sampler. Type the next "
    "prompt there and press Enter: it is used from the next chunk on. A `{cut}` or `{blend=2s}` at its end works too. "
    "**Finish** ends the film after the chunk that is being rendered, and Save Video receives it.\n\n"
    "The same from a shell; 3 is the sampler's id:\n\n```\n"
    "curl http://127.0.0.1:8188/longlive/live/3/status\n"
    "curl -H 'Content-Type: application/json' \\\n"
    '  -d \'{"text": "PROMPT"}\' \\\n'
    "  http://127.0.0.1:8188/longlive/live/3/prompt\n"
    "curl -X POST -H 'Content-Type: application/json' \\\n"
    "  http://127.0.0.1:8188/longlive/live/3/finish\n```"
)


POCKET = WorkflowSource(
    suffix="",
    load={"model": "pocket (built-in)", "lora": "none", "text_encoder": "from the model", "vae": "from the model"},
    seconds=5.0,
    branch="3s",
    texts={
        "one": "A red ball bounces on a meadow.",
        "story": "0s A yellow ball bounces in the snow.\n"
        "8s A yellow ball grows and shrinks in the snow.\n"
        "16s A blue ball grows and shrinks on a meadow.\n"
        "24s A blue star rests on a meadow.\n"
        "32s A red star bounces on a meadow.\n"
        "40s A red star moves right in the night sky.",
        "change": "0s A red ball bounces on a meadow.\n3s A blue star bounces in the snow. {TRANSITION}",
        "portrait": "A yellow ball bounces in the snow.",
        "seeds": "A yellow ball bounces in the snow.",
        "resume": "0s A red star bounces on a meadow.\n8s A red star circles on a meadow.\n"
        "16s A blue star circles on a meadow.",
        "begin": "A red ball circles on a meadow.",
        "onward": "0s A red ball circles on a meadow.\n2s A blue ball circles on a meadow.",
        "left": "A red ball grows and shrinks on a meadow.",
        "right": "A red star bounces in the night sky. {cut}",
        "live": "A red ball bounces on a meadow.",
    },
    loaders={"unet": "pocket_dit.safetensors", "vae": "pocket_vae.safetensors"},
    lora="pocket_lora.safetensors",
    notes={
        "": "The **pocket model** is built in: coloured shapes at 128 x 80, on any CPU. Use it to try timelines. The "
        "same workflow for LongLive's own files has a name that ends in `longlive_1_3b`.",
        "comfyui_loaders": "Copy `pocket_dit.safetensors` and `pocket_vae.safetensors` from this pack's "
        "`longlive_core/pocket/weights` into `models/diffusion_models` and `models/vae`, then press **R**. The text "
        "encoder of the pocket model can be loaded with Load LongLive only.",
        "lora": "Any LoRA loader works between model and sampler. Choose a LoRA for the model that you load; none is "
        "shipped for the pocket model.",
        "int8": "The linear layers of the blocks in 8 bits need half the memory of bf16; the film changes slightly. "
        "Put LoRA loaders before this node.",
        "portrait": "The sampler's *size* is `portrait`. The pocket model was trained at 128 x 80 only, so its shapes "
        "look worse at 112 x 128; LongLive's portrait size is 480 x 832.",
        "batch_of_seeds": "One timeline, four seeds, one run: model and prompts are loaded and encoded once. For more, "
        "set *control after generate* to `increment` and queue as often as you like.",
        "transitions_compared": "One prompt switch, three ways. **recache** continues smoothly and follows the new "
        "prompt, **keep** keeps the memory of the old prompt, **cut** starts a new shot.",
        "resume": RESUME,
        "extend": EXTEND,
        "branch": BRANCH,
        "live": LIVE.replace("PROMPT", "A blue ball bounces on a meadow."),
    },
)

WHERE = (
    "- `longlive_base.pt` to `models/diffusion_models` and `lora.pt` to `models/loras`, from "
    "[Efficient-Large-Model/LongLive-1.3B](https://huggingface.co/Efficient-Large-Model/LongLive-1.3B)\n"
    "- `umt5_xxl_fp16.safetensors` to `models/text_encoders` and `wan_2.1_vae.safetensors` to `models/vae`, from "
    "[Comfy-Org/Wan_2.1_ComfyUI_repackaged]"
    "(https://huggingface.co/Comfy-Org/Wan_2.1_ComfyUI_repackaged/tree/main/split_files)\n\n"
    "Then press **R** and choose them in the loaders."
)
FOX = "A red fox with a white-tipped tail"
FOREST = "in a snowy pine forest, soft morning light, cinematic."
CONVERTED = "`python -m longlive_core convert longlive_base.pt longlive.safetensors --merge lora.pt`"

LONGLIVE = WorkflowSource(
    suffix="_1_3b",
    load={
        "model": "longlive_base.pt",
        "lora": "lora.pt",
        "text_encoder": "umt5_xxl_fp16.safetensors",
        "vae": "wan_2.1_vae.safetensors",
    },
    seconds=20.0,
    branch="10s",
    texts={
        "one": "A red fox with a white-tipped tail walks through a snowy pine forest towards the camera, soft morning "
        "light, snow falling gently, cinematic, shallow depth of field.",
        "story": "* A red fox with a white-tipped tail in a snowy pine forest, soft morning light, cinematic, shallow "
        "depth of field.\n"
        "0s It walks slowly through the deep snow towards the camera.\n"
        "10s It stops, lifts its head and listens, its ears turning.\n"
        "20s It leaps high and dives head first into the snow.\n"
        "30s It comes up with snow on its face and shakes itself dry.\n"
        "40s It trots along a frozen stream between the pines.\n"
        "50s It curls up under a fallen tree and falls asleep.",
        "change": "0s A red fox with a white-tipped tail walks through a snowy pine forest, soft morning light, "
        "cinematic.\n"
        "10s A red fox with a white-tipped tail curls up and sleeps in a snowy pine forest, soft morning light, "
        "cinematic. {TRANSITION}",
        "portrait": "A young woman with curly dark hair in a yellow raincoat walks through a narrow lantern-lit alley "
        "at night, rain on the cobblestones, reflections, cinematic.",
        "seeds": "A small wooden sailing boat rides long waves on a dark green sea under heavy clouds, wide shot, "
        "cinematic.",
        "resume": f"0s {FOX} walks {FOREST}\n10s {FOX} stops and listens {FOREST}\n"
        f"20s {FOX} curls up and sleeps {FOREST}",
        "begin": f"{FOX} walks slowly {FOREST}",
        "onward": f"0s {FOX} walks slowly {FOREST}\n10s {FOX} sits down and looks around {FOREST}",
        "left": f"{FOX} leaps high and dives head first into the snow {FOREST}",
        "right": f"{FOX} drinks from a brook on a green summer meadow, warm evening light, cinematic. {{cut}}",
        "live": f"{FOX} walks slowly {FOREST}",
    },
    loaders={"unet": "longlive.safetensors", "clip": "umt5_xxl_fp16.safetensors", "vae": "wan_2.1_vae.safetensors"},
    lora="your_wan2.1_1.3b_lora.safetensors",
    notes={
        "": WHERE,
        "comfyui_loaders": f"{WHERE}\n\nComfyUI's own loader reads LongLive's model after a conversion: {CONVERTED}, "
        "run in this pack's folder. `longlive.safetensors` goes to `models/diffusion_models`.",
        "lora": f"{WHERE}\n\nThe second loader takes your own LoRA, for Wan 2.1 **1.3B**. LongLive's own LoRA is "
        "chosen in Load LongLive and merged into the model.",
        "int8": f"{WHERE}\n\nThe linear layers of the blocks in 8 bits need half the memory of bf16; the film changes "
        "slightly. Put LoRA loaders before this node.",
        "transitions_compared": f"{WHERE}\n\n**recache** continues smoothly and follows the new prompt, **keep** keeps "
        "the memory of the old prompt, **cut** starts a new shot.",
        "resume": f"{WHERE}\n\n{RESUME}",
        "extend": f"{WHERE}\n\n{EXTEND}",
        "branch": f"{WHERE}\n\n{BRANCH}",
        "live": f"{WHERE}\n\n{LIVE.replace('PROMPT', f'{FOX} sits down {FOREST}')}\n\n"
        "With *positions* at `auto` a shot ends at 256 s, and the film too; a prompt with `{cut}` starts a new shot.",
    },
)
