"""The demo: a six-segment story through a ComfyUI server of its own. Run it by scripts/demo.

demo [--ui] [--workflow NAME] [--seed N]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from longlive_core.video import contact_sheet  # noqa: E402 - the path comes first
from tests.comfy.client import ComfyClient, Run  # noqa: E402
from tests.comfy.server import ComfyServer  # noqa: E402

OUTPUT = ROOT / "output"


def main() -> int:
    options = _options()
    prompt = _read(f"api/{options.workflow}.json")
    sampler, saver = _find(prompt, "LongLiveStreamSampler"), _find(prompt, "SaveVideo")
    if options.seed is not None:
        prompt[sampler]["inputs"]["seed"] = options.seed
    print("starting ComfyUI", flush=True)
    with ComfyServer(OUTPUT / "comfyui") as server:
        with ComfyClient(server.url) as client:
            run = client.run(prompt, _read(f"{options.workflow}.json"), _progress_line(sampler), timeout=24 * 3600)
        print(flush=True)
        if run.status != "execution_success":
            print(f"{run.error or run.status}; the server's log: {server.log}", file=sys.stderr)
            return 1
        _show(server, run, sampler, saver)
        if options.ui:
            _keep_open(server)
    return 0


def _options() -> argparse.Namespace:
    names = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Render a story with the built-in model.")
    parser.add_argument("--ui", action="store_true", help="leave the server open and print its address")
    parser.add_argument("--workflow", choices=names, default="six_segment_story")
    parser.add_argument("--seed", type=int)
    return parser.parse_args()


def _read(name: str) -> dict:
    return json.loads((ROOT / "workflows" / name).read_text(encoding="utf-8"))


def _find(prompt: dict, kind: str) -> str:
    return next(node for node, entry in prompt.items() if entry["class_type"] == kind)


def _progress_line(sampler: str):
    def show(run: Run, kind: str, data: dict) -> None:
        if kind == "progress" and data["node"] == sampler:
            done = round(40 * data["value"] / data["max"])
            print(f"\r[{'#' * done}{'.' * (40 - done)}] {100 * data['value'] // data['max']:3d} %", end="", flush=True)

    return show


def _show(server: ComfyServer, run: Run, sampler: str, saver: str) -> None:
    report = json.loads(run.outputs[sampler]["text"][0])
    file = run.outputs[saver]["images"][0]
    film = server.base / file["type"] / file["subfolder"] / file["filename"]
    sheet = film.with_suffix(".png")
    contact_sheet(film, sheet, captions=[(part["start_seconds"], part["text"]) for part in report["segments"]])
    print(f"{report['frames']} frames, {report['seconds']:.2f} s of film in {report['render_seconds']:.1f} s "
          f"({report['frames_per_second']:.1f} frames/s)")  # fmt: skip
    print(f"film: {film}\npictures: {sheet}")


def _keep_open(server: ComfyServer) -> None:
    print(f"ComfyUI is open at {server.url} (Workflow > Browse Templates > LongLive); Ctrl-C ends it", flush=True)
    try:
        server.process.wait()
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    sys.exit(main())
