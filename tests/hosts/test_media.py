"""The pack twice, prompts that are too long, films without metadata, beginnings: with the ComfyUI that is there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.harness.server import ROOT, comfyui_path

from .test_versions import filming, new_host, parts  # noqa: F401 - fixtures

pytestmark = pytest.mark.slow
INSIDE = Path(__file__).with_name("inside_media.py")
NOT_OURS = ["compatible_brands", "encoder", "major_brand", "minor_version"]  # tags that FFmpeg writes


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    """What `inside_media.py` found."""
    folder = comfyui_path()
    if folder is None:
        pytest.skip("there is no ComfyUI: run scripts/setup, or set COMFYUI_PATH")
    environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(INSIDE), str(folder), str(ROOT), str(tmp_path_factory.mktemp("comfyui"))]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("which", ["one", "again"])
def test_one_copy_is_used_without_a_word(facts, which):
    """Forbids a warning for a folder with the ending -main, and for one that is loaded again."""
    found = facts["twins"][which]
    assert found["loaded"] and found["warnings"] == [] and found["same copy"]
    assert found["web"] == ["ComfyUI-LongLive-main"] and len(found["routes"]) == len(set(found["routes"])) == 5


@pytest.mark.parametrize("which", ["two", "without a mark"])
def test_of_two_copies_one_is_used_whole(facts, which):
    """Forbids the nodes of one copy with the routes of another (404 and 409 while a film is rendered), and silence."""
    found, name = facts["twins"][which], {"two": "longlive", "without a mark": "another"}[which]
    assert found["loaded"] and found["same copy"] and found["node"] == "custom_nodes.ComfyUI-LongLive-main"
    assert found["web"] == ["ComfyUI-LongLive-main"] and len(found["routes"]) == 5
    (warning,) = found["warnings"]
    assert f"twice: 'ComfyUI-LongLive-main' is used, '{name}' is ignored. Remove one" in warning


def test_copies_of_two_versions_say_which(facts):
    """Forbids an old copy that silently replaces the one just installed."""
    (warning,) = facts["twins"]["newer"]["warnings"]
    assert re.search(
        r"twice \(versions \d\S* and 98\.7\): 'ComfyUI-LongLive-main' is used, 'newer' is ignored", warning
    )
    assert facts["twins"]["newer"]["same copy"]


def test_a_long_prompt_is_cut_and_blends(facts):
    """Forbids an error about sizes: ComfyUI's tokenizer of umt5-xxl cuts nothing."""
    found = facts["prompts"]
    assert found["lengths"] == [512, 512] and found["spans"] == [512] and found["end"] == 1, "</s> ends the prompt"
    assert found["short"] is None
    assert "has 3001 tokens, of which the text encoder takes 512: it is cut before word " in found["long"]


def test_the_pocket_clip_cuts_as_the_command_line_does(facts):
    """Forbids another embedding in ComfyUI, by our nodes or by CLIP Text Encode, and a silent cut."""
    found = facts["prompts"]
    assert found["ways"] == [[1, 32, 4096]] * 3 and found["differ"] < 1e-5
    assert "has 73 tokens, of which the text encoder takes 32" in found["pocket"]


def test_a_film_without_metadata_says_nothing(facts):
    """Forbids prompts and settings in tags, subtitles and chapters of a user who runs with --disable-metadata."""
    found = facts["silent"]
    for name in ("loud", "loud take"):
        assert {"comment", "longlive"} < set(found[name]["tags"]) and "subtitle" in found[name]["streams"]
    for name in ("film", "take", "saved"):
        assert found[name] == {"tags": NOT_OURS, "streams": ["video"], "chapters": 0}, name
    assert not found["text"] and found["reused"].endswith("2 of 2 chunks reused"), "the store keeps what it needs"


BEGINNINGS = {
    "empty": "start_latent: the latent is empty: .*leave start_latent unconnected",
    "two": "start_latent: the latent holds 2 clips",
    "long": "start_image: the film has 3 start chunks and 2 in all",
    "none": "start_image: there is no picture to start from",
    "timeline": "hint: the prompt .* has 73 tokens",
}


@pytest.mark.parametrize(("which", "words"), BEGINNINGS.items(), ids=BEGINNINGS)
def test_what_cannot_be_is_reported(facts, which, words):
    """Forbids coloured stripes from an empty latent, and other mistakes without their input's name."""
    assert re.match(words, facts["beginnings"][which])


def test_what_has_no_effect_is_in_the_report(facts):
    found = facts["beginnings"]
    assert found["masked"] == ["start_latent's noise_mask has no effect: a film's beginning is used unchanged"]
    assert [hint.split(":")[0] for hint in found["seen through"]] == [
        "start_image is transparent in places",
        "the prompt 'A red ball bounces on a meadow...' has 73 tokens, of which the text encoder takes 32",
    ]


def test_every_host_knows_the_flag(new_host, parts):  # noqa: F811 - fixtures
    """Forbids tags in the film or in its take with ComfyUI's --disable-metadata."""
    import av

    new_host.disable_metadata = True
    with new_host.pack() as package:
        film = filming(package, parts)
        film.run(keep_partial=True)
        for path in (film.film_run.path, film.take.film_path):
            with av.open(str(path)) as container:
                assert sorted(container.metadata) == NOT_OURS and len(container.streams) == 1
