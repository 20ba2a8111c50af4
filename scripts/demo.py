"""The demo: render a six-segment story with a separate ComfyUI server. Run it with scripts/demo.

demo [--ui] [--workflow NAME] [--seed N]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from longlive_core.film.contact_sheet import contact_sheet  # noqa: E402 - the path comes first
from scripts.harness import graphs  # noqa: E402
from scripts.harness.client import ComfyClient, Run  # noqa: E402
from scripts.harness.models import place_models  # noqa: E402
from scripts.harness.server import ComfyServer  # noqa: E402

OUTPUT = ROOT / "output"
CHOICES = [name for name in graphs.POCKET_NAMES if name not in graphs.ENDLESS]


def main() -> int:
    options = _options()
    prompt = graphs.api(options.workflow)
    films = graphs.films_of(prompt)
    if options.seed is not None:
        step = options.seed - prompt[films[0][1]]["inputs"]["seed"]  # keep the differences between the films' seeds
        for _, sampler, _ in films:
            prompt[sampler]["inputs"]["seed"] += step
    print("starting ComfyUI", flush=True)
    place_models(OUTPUT / "comfyui" / "models")
    with ComfyServer(OUTPUT / "comfyui") as server:
        with ComfyClient(server.url) as client:
            run = client.run(prompt, graphs.ui(options.workflow), _progress_line(prompt), timeout=24 * 3600)
        print(flush=True)
        if run.status != "execution_success":
            print(f"{run.error or run.status}; the server's log: {server.log}", file=sys.stderr)
            return 1
        for _, sampler, saver in films:
            _show(server, run, sampler, saver)
        if options.ui:
            _keep_open(server)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Render a story with the built-in model.")
    parser.add_argument("--ui", action="store_true", help="keep the server running and print its address")
    parser.add_argument("--workflow", choices=CHOICES, default="six_segment_story")
    parser.add_argument("--seed", type=int)
    return parser.parse_args()


def _progress_line(prompt: dict):
    samplers = graphs.of_kind(prompt, "LongLiveStreamSampler")

    def show(run: Run, kind: str, data: dict) -> None:
        if kind == "progress" and data["node"] in samplers:
            done = round(40 * data["value"] / data["max"])
            print(f"\r[{'#' * done}{'.' * (40 - done)}] {100 * data['value'] // data['max']:3d} %", end="", flush=True)

    return show


def _show(server: ComfyServer, run: Run, sampler: str, saver: str) -> None:
    report = json.loads(run.outputs[sampler]["text"][0])
    file = run.outputs[saver]["images"][0]
    film = server.base / file["type"] / file["subfolder"] / file["filename"]
    sheet = film.with_suffix(".png")
    contact_sheet(film, sheet, prompts=[(part["start_seconds"], part["text"]) for part in report["segments"]])
    speed = report["frames_per_second"]  # null if everything was rendered before
    how = f"in {report['render_seconds']:.1f} s ({speed:.1f} frames/s)" if speed else "from the store: "
    f"{report['reused']}"
    print(f"{report['frames']} frames, {report['seconds']:.2f} s of film {how}")
    print(f"film: {film}\npictures: {sheet}")


def _keep_open(server: ComfyServer) -> None:
    print(
        f"ComfyUI is running at {server.url} (Workflow > Browse Templates > LongLive); Ctrl-C stops it",
        flush=True,
    )
    try:
        server.process.wait()
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    sys.exit(main())
