"""What ComfyUI's own VIDEO and Save Video make of a film with subtitles, with the code of the ComfyUI that is there."""

import json
import subprocess
import sys

import pytest

from longlive_core.config import StreamConfig
from longlive_core.film.read_tags import read_film
from longlive_core.film.subtitles import Subtitle
from longlive_core.film.tags import film_metadata
from longlive_core.timeline import parse
from scripts.harness.server import ROOT, comfyui_path

from ..test_subtitles import read_subtitles, video_packets, write

pytestmark = pytest.mark.slow

CODE = """
import json, sys
sys.path[:0] = [{comfyui!r}, {root!r}]
import torch
from comfy_api.latest._input_impl.video_types import VideoFromFile

def seen(path):
    video = VideoFromFile(path)
    parts = video.get_components()
    facts = {{name: str(getattr(video, name)()) for name in ("get_dimensions", "get_duration", "get_frame_count",
            "get_frame_rate", "get_container_format") if hasattr(video, name)}}
    return {{**facts, "shape": list(parts.images.shape), "sum": parts.images.sum().item(), "rate":
            str(parts.frame_rate), "audio": parts.audio is None}}

plain, named, saved = sys.argv[1:]
VideoFromFile(named).save_to(saved, metadata={{"prompt": {{"1": "x"}}}})
print(json.dumps([seen(plain), seen(named), seen(saved)]))
"""
TIMELINE = "0c a\n1c b\n2c \u96ea {cut}"


def test_save_video_keeps_the_subtitles_and_the_record(tmp_path):
    """Forbids a film that ComfyUI reads in another way for its subtitles, and one that loses them when it is saved."""
    comfyui = comfyui_path()
    if comfyui is None:
        pytest.skip("there is no ComfyUI: run scripts/setup, or set COMFYUI_PATH")
    plan, stream = parse(TIMELINE).plan(1.8), StreamConfig()
    tags = film_metadata(TIMELINE, plan, stream, 7, (96, 64), "pocket")
    subtitles = [Subtitle(segment.start_frame, segment.text) for segment in plan.segments]
    files = [tmp_path / name for name in ("plain.mp4", "named.mp4", "saved.mp4")]
    write(files[0], (), (9, 12, 9))
    write(files[1], subtitles, (9, 12, 9), metadata=tags)
    code = CODE.format(comfyui=str(comfyui), root=str(ROOT))
    answer = subprocess.run(
        [sys.executable, "-c", code, *map(str, files)], capture_output=True, text=True, cwd=comfyui, check=False
    )
    assert answer.returncode == 0, answer.stderr
    plain, named, saved = json.loads(answer.stdout.splitlines()[-1])
    assert plain == named == saved and plain["shape"] == [30, 64, 96, 3]
    assert [packet[-1] for packet in video_packets(files[2])] == [packet[-1] for packet in video_packets(files[0])]
    assert read_subtitles(files[2]) == read_subtitles(files[1])
    assert [Subtitle(round(16 * start), text) for start, _, text in read_subtitles(files[2])] == subtitles
    film = read_film(files[2])
    assert film == read_film(files[1])
    assert (film.timeline, film.chunks, film.seed, film.stream) == (TIMELINE, 3, 7, stream)
