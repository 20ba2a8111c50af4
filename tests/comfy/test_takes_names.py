"""A take begun in ComfyUI continues on the command line, and vice versa: the same model, the same film."""

import numpy as np
import pytest

from longlive_core import cli
from scripts.harness import mp4

from .takes import CHUNKS, SECONDS, SIZE, STORY, empty_store, frames, report, store_of, story
from .tiny_models import TINY_DIT, TINY_VAE

pytestmark = pytest.mark.comfy
SEED = 77


@pytest.fixture
def render(server, tmp_path, capsys):
    """Renders the story on the command line into the server's takes: (the film's frames, the output)."""

    def render() -> tuple[np.ndarray, str]:
        path, folder, models = tmp_path / "film.mp4", store_of(server).folder, server.base / "models"
        words = [
            "render",
            STORY,
            "-o",
            path,
            "--duration",
            SECONDS,
            "--seed",
            SEED,
            "--dtype",
            "fp32",
            "--device",
            "cpu",
            "--width",
            SIZE["width"],
            "--height",
            SIZE["height"],
            "--takes",
            folder,
            "--model",
            models / "diffusion_models" / TINY_DIT,
            "--vae",
            models / "vae" / TINY_VAE,
        ]
        assert cli.main([str(word) for word in words]) == 0
        return mp4.read(path.read_bytes()).frames, "".join(capsys.readouterr())

    return render


def test_a_take_continues_in_the_other_program(client, server, render):
    """Forbids two names for one model: with them each program renders the other's film again."""
    client.run(story(0, duration=0.5, text="0s A ball"))  # so that ComfyUI remembers no take of this graph
    empty_store(server)
    made, _ = render()
    run = client.run(story(SEED))
    reported = report(run)
    assert (reported["rendered_chunks"], reported["chunks"]) == (0, CHUNKS)
    assert np.array_equal(frames(client, run), made)
    manifest = store_of(server).read_manifest(reported["take"])
    for key in manifest.keys[3:]:
        store_of(server).latents_path(key).unlink()
    assert report(client.run(story(SEED, on_cancel="discard")))["rendered_chunks"] == CHUNKS - 3
    _, said = render()
    assert f"take {manifest.id}: {CHUNKS} of {CHUNKS} chunks reused" in said
