"""Films that are in a store under names of earlier versions: found, continued, and never rendered again."""

from dataclasses import asdict, replace

import pytest
import torch

from longlive_core.config import StreamConfig
from longlive_core.film.video import Encoding
from longlive_core.takes import Live, Origin, StartChunks, TakeStore, VaeIdentity, extended, open_take, plan_take, reuse
from longlive_core.takes.checksums import UnitInfo
from longlive_core.takes.keys import digest
from longlive_core.timeline import parse

from .studio import CHUNKS, SIZE, STORY, VAE, complete

TEXT = "0c a\n2c b {seed=7}\n4c c {cut}\n5c a {keep}"
OLD = Origin("old", "old text", "float32", StreamConfig(window=9, sink=3, denoising_steps=(1000, 500)), (48, 32), 3)
OLD_VAE = VaeIdentity("old vae", "torch.float32", 4)

# Written down from the version before names had aliases: of TEXT with OLD and OLD_VAE.
KEYS = [
    [
        "88148dc572f887551324d33cc245af88",
        "8c7aa947a6e668d9450eaaba9f3a9a27",
        "87519b9aa3d620f85b23befa4016fb9a",
        "6e9091588ceffce092a0957888d71e83",
    ],
    ["c84131bf7c05f0c2666c32a495a43c26", "277978ae648426acc8820cefa7ae374e"],
]
TAKE, UNIT = "f427eb31b3a4", "3b0a1920"
AFTER_A_CLIP = ["given0", "given1", "cd43c4fd18a7013d32ced5ebcb291951", "1ccd1d0fa1c173ecdd614fe73d0288d3"]


@pytest.fixture
def store(tmp_path):
    return TakeStore(tmp_path / "store")


def planned(store, origin, vae=OLD_VAE, given=None, text=TEXT, chunks=6, fps=16):
    plan = parse(text).plan((12 * chunks - 3 * (1 + text.count("{cut}"))) / 16)
    return plan_take(store, text, plan, origin, Encoding(48, 32, fps, crf=18), vae, given)


def renamed(origin, *aliases, **change):
    """The same origin by a newer version: under a new name, with the old ones."""
    aliases = aliases or (replace(origin, **change),)
    return replace(origin, model="new", text_encoder="new text", aliases=aliases, **change)


def fill(store, keys, unit=None):
    for key in keys:
        store.save_latents(key, torch.zeros(1, 16, 3, 4, 6))
        if unit is not None:
            store.chunks.save_unit(UnitInfo(key, unit, 9, SIZE), b"video")


def test_keys_ids_and_units_are_those_of_earlier_versions(store):
    """Forbids a change that loses every film made so far."""
    take = planned(store, OLD)
    assert (take.manifest.shots, take.id, take.manifest.unit) == (KEYS, TAKE, UNIT)
    assert planned(store, OLD, given=StartChunks(("given0", "given1"))).manifest.shots[0] == AFTER_A_CLIP
    assert "aliases" not in take.manifest.origin and "variant" not in str(take.manifest)


def test_a_film_under_an_old_name_is_that_film(store):
    """Forbids rendering, decoding or listing a film a second time because its model is named otherwise now."""
    store.write_manifest(planned(store, OLD).manifest)
    fill(store, sum(KEYS, []), UNIT)
    take = planned(store, renamed(OLD), VaeIdentity("new vae", "torch.float32", 4, aliases=(OLD_VAE,)))
    assert complete(take) and not take.new
    assert (take.id, take.manifest.unit, take.manifest.origin) == (TAKE, UNIT, OLD.as_json())


def test_a_new_film_has_the_new_name(store):
    """Forbids that old names live on in films that did not begin under them."""
    take = planned(store, renamed(OLD), VaeIdentity("new vae", "torch.float32", 4, aliases=(OLD_VAE,)))
    assert take.manifest.origin["model"] == "new" and take.manifest.unit != UNIT
    assert not set(take.manifest.keys) & set(sum(KEYS, []))


def test_the_name_with_most_chunks_is_taken(store):
    """Forbids a name that has the first chunk only, where another has nearly all of the film."""
    new, older = renamed(OLD), replace(OLD, model="older")
    both = renamed(OLD, OLD, older)
    fill(store, planned(store, new).manifest.keys[:2])
    fill(store, planned(store, OLD).manifest.keys[:2])
    assert planned(store, both).origin.model == "new", "between equals, the newest"
    fill(store, planned(store, older).manifest.keys[:3])
    assert planned(store, both).origin.model == "older"
    fill(store, KEYS[1])  # of the second shot: chunks after a gap count too
    assert planned(store, both).origin.model == "old"


def test_only_the_units_may_have_an_old_name(store):
    """Forbids decoding again what a VAE under its old name decoded, and another name for a film begun so."""
    take = planned(store, OLD)
    fill(store, take.manifest.keys[:2], UNIT)
    assert planned(store, OLD, replace(OLD_VAE, variant="frames", aliases=(OLD_VAE,))).manifest.unit == UNIT
    other = planned(store, replace(OLD, seed=4), replace(OLD_VAE, variant="frames", aliases=(OLD_VAE,)))
    assert other.manifest.unit not in (UNIT, "") and len(other.manifest.unit) == len(UNIT)


def test_a_rate_is_a_number(store):
    """Forbids that 16 and 16.0 frames a second are two films, or that either was the name of old ones in vain."""
    assert planned(store, OLD, fps=16.0).manifest.unit == UNIT
    old = VaeIdentity("comfyui's", "torch.float32", 4)
    name = digest([old.weights, old.dtype, asdict(Encoding(48, 32, 16.0, crf=18))])[:8]
    fill(store, planned(store, OLD).manifest.keys, name)
    assert planned(store, OLD, old).manifest.unit == name
    assert planned(store, OLD, old, fps=24).manifest.unit != planned(store, OLD, old, fps=23.976).manifest.unit


def test_a_film_after_a_take_of_the_old_name_is_the_longer_one(store):
    """Forbids a seam, and chunks that count as another's, where only the name of the model changed since."""
    take = planned(store, OLD, text="0c a", chunks=2)
    store.write_manifest(take.manifest)
    fill(store, take.manifest.keys)
    plan, given = extended(store, take.id, None, parse("0c a").plan(33 / 16), (48, 32))
    longer = plan_take(store, "", plan, renamed(OLD), Encoding(48, 32, crf=18), OLD_VAE, given)
    assert longer.manifest.keys == planned(store, OLD, text="0c a", chunks=plan.chunks).manifest.keys
    assert longer.manifest.given == 0


def test_a_film_that_went_on_under_two_old_names_is_found(store):
    """Forbids losing films whose model had one name in the first run of a session and another in the second."""
    before, after = OLD, replace(OLD, model="after loading")
    take = planned(store, before, text="0c a", chunks=2)
    store.write_manifest(take.manifest)
    fill(store, take.manifest.keys)
    plan, given = extended(store, take.id, None, parse("0c a").plan(33 / 16), (48, 32))
    second = plan_take(store, "", plan, after, Encoding(48, 32, crf=18), OLD_VAE, given)
    fill(store, second.manifest.keys)
    now = plan_take(store, "", plan, renamed(OLD, before, after), Encoding(48, 32, crf=18), OLD_VAE, given)
    assert now.reused == plan.chunks and now.id == second.id


def test_why_does_not_speak_of_names(store):
    """Forbids "the model changed" where it did not."""
    store.write_manifest(planned(store, OLD).manifest)
    assert "the seed changed" in reuse(planned(store, renamed(OLD, seed=4)))
    assert "the model" not in reuse(planned(store, renamed(OLD, seed=4)))
    assert "the model" in reuse(planned(store, replace(OLD, model="another")))


@pytest.mark.parametrize("live", [False, True])
def test_a_film_of_the_old_name_continues_without_rendering_what_is_there(studio, live):
    """Forbids a name that is found at first and left on the way: by what remains, or by a prompt that comes live."""
    old = studio.open()
    studio.render(old)
    for key in old.manifest.keys[6:]:
        studio.store.latents_path(key).unlink()
    origin = renamed(old.origin)
    take = open_take(studio.store, STORY, old.plan, origin, old.encoding, VAE)
    assert (take.id, take.reused) == (old.id, 6)
    steering = Live(take.plan)
    if live:
        steering.prompt("a", at="8c")
    steps, _ = studio.render(take, live=steering)
    assert {chunk for chunk, _ in steps} == set(range(6, CHUNKS))
    assert studio.take.manifest.origin["model"] == "model"
    assert studio.take.manifest.origin["size"] == list(SIZE)
