"""The GPU benchmark's step with a server: run as a user runs it, with tiny shapes."""

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu.notes import read_json
from scripts.harness.server import comfyui_path

pytestmark = [pytest.mark.comfy, pytest.mark.skipif(comfyui_path() is None, reason="there is no ComfyUI")]


def test_films_come_out_of_the_servers_step(tmp_path):
    """Forbids a step that no longer fits the nodes, found out where a card is rented by the minute."""
    code = command.main(["--out", str(tmp_path), "--tiny", "--device", "cpu", "--step", "server", "--patience", "3"])
    found = read_json(tmp_path / "server.json")
    films = found["films"]
    assert code == 0, found
    assert list(films) == [
        "UNETLoader and VAELoader",
        "the same again, from memory",
        "Load LongLive",
        "Quantize INT8",
        "cancel and resume",
    ]
    assert films["UNETLoader and VAELoader"]["frames counted in the MP4"] == 33
    assert films["UNETLoader and VAELoader"]["memory"]["main memory used GB"] > 0
    last = films["cancel and resume"]
    assert last["chunks rendered"] + last["chunks reused"] == last["resumed"]["report"]["chunks"] == 3
    assert found["server log"] and found["ComfyUI"]["comfyui_version"]
