"""The memory that ComfyUI must keep free for a film, and where prompts that arrive during its render are encoded."""

from types import SimpleNamespace

import pytest
import torch

from . import fakes
from .test_versions import SHAPE, filming, parts  # noqa: F401 - a fixture

pytestmark = pytest.mark.slow

GPU = torch.device("cuda")


class Encoder:
    """A CLIP whose text encoder takes 10 GB on a GPU."""

    def __init__(self, dynamic=False, loaded=0):
        self.patcher = SimpleNamespace(
            load_device=GPU, model_size=lambda: 10e9, loaded_size=lambda: loaded, is_dynamic=lambda: dynamic
        )

    def clone(self):
        twin = Encoder()
        twin.patcher = SimpleNamespace(**vars(self.patcher))
        return twin


@pytest.fixture
def host(tmp_path):
    return fakes.Host(fakes.OLD, tmp_path)


def test_what_is_held_already_is_not_requested_again(host, parts, monkeypatch):  # noqa: F811
    """Forbids the caches reserved twice at a live prompt, which pushes the transformer out for the rest of the film."""
    requested, held = [], []
    with host.pack() as package:
        film, compat = filming(package, parts), package.nodes.compat

        def load(models, memory_required):
            requested.append(memory_required)
            held.append(film.film_run.offloader.allocated)

        monkeypatch.setattr(compat.running.management, "load_models_gpu", load)
        embedding = torch.randn(1, 5, SHAPE.text_dim)
        monkeypatch.setattr(package.nodes.compat.text, "encode_text", lambda clip, text: embedding)
        film.film_run.live.prompt("a prompt that nobody knew", at="4c")
        film.run(keep_partial=True)
    assert requested == [film.film_run.expected.need.run - bytes_held for bytes_held in held]
    assert held[0] == 0 and film.film_run.expected.need.cache < held[1] < 1.1 * (
        film.film_run.expected.need.cache + film.film_run.expected.need.vae
    )


def test_prompts_of_a_take_are_encoded_before_the_model_is_loaded(host, parts, monkeypatch):  # noqa: F811
    """Forbids a text encoder that pushes out a transformer which was loaded a moment ago."""
    order = []
    with host.pack() as package:
        film, compat = filming(package, parts), package.nodes.compat
        film.timeline.contexts.clear()
        monkeypatch.setattr(
            compat.running.management, "load_models_gpu", lambda models, memory_required: order.append("load")
        )

        def encode(clip, text):
            order.append(text)
            return torch.randn(1, 5, SHAPE.text_dim)

        monkeypatch.setattr(package.nodes.compat.text, "encode_text", encode)
        film.run(keep_partial=True)
    assert order == ["one", "two", "three", "load"]


@pytest.mark.parametrize(
    ("free", "kind", "beside"),
    [
        (14e9, {}, True),
        (11e9, {}, False),
        (11e9, {"dynamic": True}, True),
        (4e9, {"loaded": 10e9}, True),
    ],
    ids=["fits", "would push the model out", "dynamic", "loaded already"],
)
def test_a_text_encoder_that_would_push_the_model_out_stays_on_the_cpu(host, monkeypatch, free, kind, beside):
    """10 GB, a tenth more for its loading, 1 GB that ComfyUI keeps, and 1 GB that the film will still take."""
    with host.pack() as package:
        compat = package.nodes.compat
        monkeypatch.setattr(compat.running.management, "is_device_cpu", lambda device: device.type == "cpu")
        monkeypatch.setattr(compat.running.management, "get_free_memory", lambda device: free, raising=False)
        monkeypatch.setattr(compat.running.management, "minimum_inference_memory", lambda: 1e9, raising=False)
        clip = Encoder(**kind)
        chosen = compat.clip_beside(clip, reserve=int(1e9))
    assert clip.patcher.load_device == GPU, "the user's CLIP stays as it is"
    assert (chosen is clip) is beside
    assert chosen.patcher.load_device == (GPU if beside else torch.device("cpu"))
