"""Step: replay the recordings of the paper's code on the device, in float32 without TF32."""

from __future__ import annotations

import contextlib

from .environment import ROOT
from .notes import Notes, Setting

FOLDER = ROOT / "tests" / "fidelity"
ALL = 9
BOUND = 1e-4
TINY_FRAMES = 2_700_000  # bytes: smaller recordings are quick on a CPU


def run(setting: Setting, notes: Notes) -> None:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.use_deterministic_algorithms(False)
    files = sorted(FOLDER.glob("*.safetensors"))
    if setting.tiny:
        files = sorted(files, key=lambda path: path.stat().st_size)[:1]
    found: dict[str, dict] = {}
    for path in files:
        found[path.stem] = _replay(path, setting.device)
        notes.add(bound=BOUND, recordings=found)
    outside = [name for name, entry in found.items() if not entry["within the bound"]]
    notes.add(headline=f"{len(found) - len(outside)} of {len(found)} recordings within {BOUND:g}")
    if outside:
        raise RuntimeError(f"outside the bound of {BOUND:g}: {', '.join(outside)}")
    if not setting.tiny and len(found) != ALL:
        raise RuntimeError(f"{len(found)} recordings in {FOLDER}, there should be {ALL}")


def _replay(path, device: str) -> dict:
    differences = _differences(path, device)
    worst = max(differences.values())
    entry = {"largest differences": differences, "within the bound": worst <= BOUND}
    if worst > BOUND and device == "cuda":  # which device computed it
        from torch.nn.attention import SDPBackend, sdpa_kernel

        entry["with attention as plain matrix products"] = _differences(path, device, sdpa_kernel(SDPBackend.MATH))
    return entry


def _differences(path, device: str, context=contextlib.nullcontext()) -> dict[str, float]:  # noqa: B008 - has no state
    from longlive_core.run.replay import read_recording, run

    tensors, config = read_recording(path)
    with context:
        outputs = run(tensors, config, device)
    return {name: float(f"{(made - tensors[name]).abs().max().item():.3g}") for name, made in outputs.items()}
