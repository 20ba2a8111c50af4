"""Example client: queue many timelines on a ComfyUI server, follow them, fetch the films. See docs/api.md.

    python scripts/client.py --out films story.txt "0s A red ball bounces on a meadow."

Needs only aiohttp, which ComfyUI's environment has, and nothing else of this pack: copy it and adapt it.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import json
import re
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

WORKFLOW = Path(__file__).resolve().parent.parent / "workflows" / "api" / "01_start_here_pocket.json"
FINISHED = {"execution_success": "done", "execution_error": "failed", "execution_interrupted": "cancelled"}
POLL_SECONDS = 5.0  # between reads of the history, in case an event was missed


@dataclass
class Job:
    """One film. state: queued, running, done, failed, cancelled or refused; text: an error, or the films' paths."""

    name: str
    prompt: dict
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    state: str = "queued"
    text: str = ""
    percent: int = 0

    @property
    def open(self) -> bool:
        return self.state in ("queued", "running")


def make_prompt(workflow: dict, timeline: str, settings: dict) -> dict:
    """Return the workflow with a timeline and settings set, by the inputs' names."""
    prompt = copy.deepcopy(workflow)
    for name, value in {"text": timeline, **settings}.items():
        owners = [node["inputs"] for node in prompt.values() if name in node["inputs"]]
        if not owners:
            raise SystemExit(f"the workflow has no input {name}")
        for inputs in owners:
            inputs[name] = value
    return prompt


class Server:
    """A ComfyUI server's HTTP interface and its websocket, for one client."""

    def __init__(self, session: aiohttp.ClientSession, url: str):
        self.session, self.url, self.client_id = session, url.rstrip("/"), uuid.uuid4().hex

    def listen(self):
        """Return the websocket. Connect before queueing, or the first events are lost."""
        return self.session.ws_connect(f"{self.url}/ws", params={"clientId": self.client_id}, max_msg_size=0)

    async def queue(self, job: Job) -> None:
        body = {"prompt": job.prompt, "client_id": self.client_id, "prompt_id": job.id}
        async with self.session.post(f"{self.url}/prompt", json=body) as response:
            if response.status == 400:  # nothing runs; the answer lists the errors by node
                job.state, job.text = "refused", _refusal(await response.json())
            else:
                response.raise_for_status()

    async def history(self, job: Job) -> dict | None:
        """Return a job's result; None until it has ended. The history does not need the websocket."""
        async with self.session.get(f"{self.url}/history/{job.id}") as response:
            return (await response.json()).get(job.id)

    async def fetch(self, file: dict, path: Path) -> None:
        query = {key: file[key] for key in ("filename", "subfolder", "type")}
        async with self.session.get(f"{self.url}/view", params=query) as response:
            response.raise_for_status()
            with path.open("wb") as out:
                async for piece in response.content.iter_chunked(2**20):
                    out.write(piece)

    async def cancel(self, jobs: list[Job]) -> None:
        """Remove waiting jobs from the queue, and end the running one."""
        await self.session.post(f"{self.url}/queue", json={"delete": [job.id for job in jobs]})
        for job in jobs:
            if job.state == "running":
                await self.session.post(f"{self.url}/interrupt", json={"prompt_id": job.id})


def _refusal(answer: dict) -> str:
    details = [
        error.get("details") or error["message"]
        for node in (answer.get("node_errors") or {}).values()
        for error in node["errors"]
    ]
    return "; ".join(dict.fromkeys(details)) or answer["error"]["message"]


async def run(url: str, jobs: list[Job], out: Path) -> None:
    """Queue all jobs, and fetch each film as soon as it is finished."""
    async with aiohttp.ClientSession() as session:
        server = Server(session, url)
        async with server.listen() as events:
            for job in jobs:
                await server.queue(job)
                report(job)
            try:
                while any(job.open for job in jobs):
                    for job in await follow(events, [job for job in jobs if job.open]):
                        await collect(server, job, out)
            except asyncio.CancelledError:
                await server.cancel([job for job in jobs if job.open])
                raise


async def follow(events: aiohttp.ClientWebSocketResponse, jobs: list[Job]) -> list[Job]:
    """Read events until a job has ended and return it. After POLL_SECONDS return all, in case an event was missed."""
    by_id, ended = {job.id: job for job in jobs}, []
    deadline = asyncio.get_running_loop().time() + POLL_SECONDS
    while (left := deadline - asyncio.get_running_loop().time()) > 0:
        try:
            message = await events.receive(timeout=left)
        except asyncio.TimeoutError:
            break
        if message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
            await asyncio.sleep(left)
            break
        if message.type != aiohttp.WSMsgType.TEXT:
            continue  # previews are binary
        event = json.loads(message.data)
        if event["type"] == "status" and ended:  # sent when the history has been written
            return ended
        data = event.get("data") or {}
        job = by_id.get(data.get("prompt_id"))
        if job is not None and event["type"] in FINISHED:
            ended.append(job)
        elif job is not None and event["type"] == "progress":
            note_progress(job, data)
    return jobs


def note_progress(job: Job, data: dict) -> None:
    """Print the sampler's progress, in steps of 10 %."""
    if job.prompt.get(data["node"], {}).get("class_type") != "LongLiveStreamSampler":
        return
    percent = 100 * data["value"] // data["max"]
    if job.state == "queued" or percent // 10 != job.percent // 10:
        job.state, job.percent = "running", percent
        report(job)


async def collect(server: Server, job: Job, out: Path) -> None:
    """Set the state of a job that has ended, and fetch its films."""
    ended = await server.history(job)
    if ended is None:
        return
    messages = dict(ended["status"]["messages"])
    job.state = next((state for kind, state in FINISHED.items() if kind in messages), "failed")
    job.text = messages.get("execution_error", {}).get("exception_message", "").strip()
    files = [file for output in ended["outputs"].values() for file in output.get("images", ())]
    if job.state == "done":
        out.mkdir(parents=True, exist_ok=True)
        paths = [
            out / (job.name + (f"_{i}" if i else "") + Path(file["filename"]).suffix) for i, file in enumerate(files)
        ]
        for file, path in zip(files, paths):  # noqa: B905 - equally long
            await server.fetch(file, path)
        job.text = ", ".join(map(str, paths))
    report(job)


def report(job: Job) -> None:
    progress = f"{job.percent} %" if job.state == "running" else job.text
    print(f"{job.name}: {job.state} {progress}".rstrip(), flush=True)


def read_timelines(arguments: list[str]) -> dict[str, str]:
    """Return texts by name. A timeline is a file or the text itself; a word that is not a file is an error."""
    timelines = {}
    for argument in arguments:
        is_text = re.search(r"\s", argument) is not None
        path = Path(argument)
        if not is_text and not path.is_file():
            raise SystemExit(f"there is no file {argument}; a timeline is a file or the text itself")
        name, text = ("film", argument) if is_text else (path.stem, path.read_text(encoding="utf-8"))
        number = 1
        while (unique := name if number == 1 else f"{name}_{number}") in timelines:
            number += 1
        timelines[unique] = text
    return timelines


def main() -> int:
    parser = argparse.ArgumentParser(description="Queue timelines on a ComfyUI server and fetch the films.")
    parser.add_argument("timelines", nargs="+", metavar="TIMELINE", help="a file or the text itself")
    parser.add_argument("--server", default="http://127.0.0.1:8188", help="address of the server; default: %(default)s")
    parser.add_argument(
        "--workflow", type=Path, default=WORKFLOW, help="in API format; default: 01_start_here_pocket.json"
    )
    parser.add_argument("--out", type=Path, default=Path("films"), help="folder for the films; default: %(default)s")
    given = {"duration": float, "seed": int, "size": str, "width": int, "height": int}
    for name, kind in given.items():
        parser.add_argument(f"--{name}", type=kind, help="replaces the workflow's value")
    options = vars(parser.parse_args())
    settings = {name: options[name] for name in given if options[name] is not None}
    workflow = json.loads(options["workflow"].read_text(encoding="utf-8"))
    if settings.keys() & {"width", "height"} and any("size" in node["inputs"] for node in workflow.values()):
        settings.setdefault("size", "auto")  # the only size that allows width and height
    jobs = [
        Job(name, make_prompt(workflow, text, settings)) for name, text in read_timelines(options["timelines"]).items()
    ]
    try:
        asyncio.run(run(options["server"], jobs, options["out"]))
    except KeyboardInterrupt:
        print("cancelled", file=sys.stderr)
        return 130
    except aiohttp.ClientError as error:
        print(f"{options['server']}: {error}", file=sys.stderr)
        return 1
    return int(any(job.state != "done" for job in jobs))


if __name__ == "__main__":
    sys.exit(main())
