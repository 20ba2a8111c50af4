"""The streaming decoder over the VAE of a real ComfyUI of any version; no server is started."""

import json
import subprocess
import sys

import pytest

from scripts.harness.server import ROOT, comfyui_path

pytestmark = pytest.mark.slow

CODE = """
import json, sys
sys.path[:0] = [{comfyui!r}, {root!r}]
import comfy.cli_args
comfy.cli_args.args.cpu = True
import torch
from comfy.ldm.wan.vae import WanVAE
from longlive_core.vae import LATENTS_MEAN, LATENTS_STD, StreamingDecoder
from longlive_core.vae import WanVAE as OurVAE
from longlive_core.vae.streaming import _decode_piece

torch.manual_seed(0)
torch.set_num_threads(1)
vae = WanVAE(dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, attn_scales=[],
             temperal_downsample=[False, True, True], dropout=0.0)
vae.load_state_dict(OurVAE(dim=8).state_dict(), strict=True)
vae.requires_grad_(False)
latents = torch.randn(1, 16, 7, 4, 6)
mean, std = (torch.tensor(v).view(1, 16, 1, 1, 1) for v in (LATENTS_MEAN, LATENTS_STD))
whole = vae.decode(latents * std + mean)
worst = dict()
for pieces in ([3, 3, 1], [1, 1, 1, 1, 1, 1, 1], [1, 2, 2, 2], [7]):
    decoder = StreamingDecoder(vae)
    parts = torch.cat([decoder.decode(piece) for piece in latents.split(pieces, dim=2)], dim=2)
    assert parts.shape == whole.shape, (parts.shape, whole.shape)
    worst[str(pieces)] = ((parts - whole).abs().max() / whole.abs().max()).item()
differ = dict()
for dtype in (torch.bfloat16, torch.float16):
    decoder, memory, raw = StreamingDecoder(vae.to(dtype)), dict(), (latents.float() * std + mean).to(dtype)
    frames = torch.cat([decoder.decode(piece) for piece in latents.split([3, 3, 1], dim=2)], dim=2)
    chunks = torch.cat([_decode_piece(vae, piece, memory) for piece in raw.split([3, 3, 1], dim=2)], dim=2)
    differ[str(dtype)] = (frames.float() - chunks.float()).abs().max().item()
print(json.dumps([worst, differ]))
"""


def test_streaming_decode_is_what_comfyui_decodes_at_once():
    """Forbids a walk through the VAE's layers that becomes wrong with another grouping of frames (as in 0.18).

    In 16 bits frame by frame must give the bits that a chunk at a time gave: users' stores contain such units.
    """
    comfyui = comfyui_path()
    if comfyui is None:
        pytest.skip("there is no ComfyUI: run scripts/setup, or set COMFYUI_PATH")
    code = CODE.format(comfyui=str(comfyui), root=str(ROOT))
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=comfyui, check=False)
    assert answer.returncode == 0, answer.stderr[-3000:]
    worst, differ = json.loads(answer.stdout.splitlines()[-1])
    assert differ == {"torch.bfloat16": 0, "torch.float16": 0}
    assert max(worst.values()) < 1e-5, worst
