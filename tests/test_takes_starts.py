"""Films that begin with existing frames: latents, a clip, or another take."""

import pytest
import torch

from longlive_core.takes import (
    TakeError,
    TakeStore,
    VaeIdentity,
    clip_latents,
    extended,
    open_take,
    store_start_latents,
)
from longlive_core.timeline import parse, plan_text
from longlive_core.vae import decode
from tests.conftest import LATENT_SIZE

from .studio import CHUNKS, SIZE, STORY, VAE, Studio, frames_of, same

pytestmark = pytest.mark.slow


def begin(studio, latents, text="0c a\n3c b", chunks=6):
    shell = studio.open(text, chunks)
    studio.store.remove(shell.id)
    given = store_start_latents(studio.store, latents, shell.origin, chunks)
    return open_take(studio.store, text, shell.plan, shell.origin, shell.encoding, VAE, given)


def go_on(studio, take, text, chunks, at=None, **settings):
    """Open the film that extends `take` for `chunks` more chunks."""
    new = parse(text, continues=True).plan(None, chunks=chunks)
    origin = studio.open(**settings).origin
    plan, given = extended(studio.store, take.id, at, new, origin.size)
    return open_take(studio.store, plan_text(plan), plan, origin, take.encoding, VAE, given)


def test_a_film_continues_after_latents_as_after_its_own(studio):
    """Forbids another path for a given beginning than for a rendered one."""
    whole = studio.open("0c a\n3c b", 6)
    studio.render(whole)
    made = studio.latents(whole)
    other = Studio(studio.model, studio.contexts, studio.decoder, TakeStore(studio.store.folder / "other"))
    for count in (1, 3, 4):
        take = begin(other, torch.cat(made[:count], dim=2))
        assert take.reused == count and take.id != whole.id
        steps, decoded = other.render(take)
        assert {chunk for chunk, _ in steps} == set(range(count, 6)) and decoded == list(range(6))
        assert same(other.latents(take), made)
        other.store.remove(take.id)


def test_other_latents_or_prompts_make_other_films(studio):
    """Forbids reusing what followed from another beginning."""
    latents = torch.randn(1, 16, 6, *LATENT_SIZE)
    studio.render(begin(studio, latents))
    assert begin(studio, latents).reused == 6
    assert begin(studio, latents, "0c c\n3c b").reused == 2
    assert begin(studio, latents, "0c a\n1c b").reused == 2
    assert begin(studio, latents + 1e-3).reused == 2
    assert begin(studio, latents.to(memory_format=torch.channels_last_3d)).reused == 6


def test_pictures_and_clips_fill_whole_chunks(tiny_decoder):
    """Forbids clips cut at their end, where the film continues, and pictures of another place."""
    vae, frames = tiny_decoder.module, torch.rand(30, SIZE[1], SIZE[0], 3)
    for count, latents, used in (
        (1, 3, [0] * 9),
        (5, 3, [0, 0, 0, 0, 0, 1, 2, 3, 4]),
        (9, 3, range(9)),
        (20, 3, range(11, 20)),
        (21, 6, range(21)),
        (30, 6, range(9, 30)),
    ):
        got = clip_latents(vae, frames[:count], 3, "cpu", torch.float32)
        assert got.shape == (1, 16, latents, *LATENT_SIZE)
        assert torch.equal(got, clip_latents(vae, frames[list(used)], 3, "cpu", torch.float32)), count
    assert decode(vae, got).shape[2] == 21


BAD_LATENTS = {
    "size": (torch.zeros(1, 16, 3, 9, 9), "72 x 72 pixels"),
    "batch": (torch.zeros(2, 16, 3, *LATENT_SIZE), "a batch of 2"),
    "length": (torch.zeros(1, 16, 4, *LATENT_SIZE), "4 latent frames; it must be a multiple of the chunk, 3"),
    "nothing left": (torch.zeros(1, 16, 18, *LATENT_SIZE), "nothing to render"),
}


@pytest.mark.parametrize(("latents", "words"), BAD_LATENTS.values(), ids=BAD_LATENTS)
def test_latents_that_do_not_fit_are_refused(studio, latents, words):
    """Forbids a tensor error minutes later."""
    with pytest.raises(ValueError, match=words):
        begin(studio, latents)


def test_going_on_with_the_same_prompt_is_the_longer_film(studio):
    """Forbids a seam where nothing changes."""
    take = studio.open()
    studio.render(take)
    longer = go_on(studio, take, "0c b\n2c c", 4)
    assert longer.id == studio.open(f"{STORY}\n12c c", 14).id
    steps, _ = studio.render(longer)
    assert {chunk for chunk, _ in steps} == {10, 11, 12, 13}


@pytest.mark.parametrize("text", ["0c c", "0c c {keep}", "0c c {cut}", "0c c {blend=2c}"])
@pytest.mark.parametrize("at", [1, 5, 9])
def test_a_branch_is_the_film_of_the_joined_timeline(studio, text, at):
    """Forbids a branch that remembers what came after it, and chunks rendered twice."""
    take = studio.open()
    studio.render(take)
    branch = go_on(studio, take, text, 3, at)
    assert branch.reused == at and branch.manifest.given == 0
    studio.render(branch)
    whole = Studio(studio.model, studio.contexts, studio.decoder, TakeStore(studio.store.folder / "other"))
    alone = whole.open(branch.manifest.timeline, at + 3)
    whole.render(alone)
    assert alone.id == branch.id and same(studio.latents(branch), whole.latents(alone))
    assert all((a == b).all() for a, b in zip(frames_of(branch.film_path), frames_of(alone.film_path), strict=True))


def test_a_branch_with_another_seed_keeps_its_beginning(studio):
    """Forbids rendering the beginning again because what follows has other settings."""
    take = studio.open()
    studio.render(take)
    branch = go_on(studio, take, "0c a", 3, 5, seed=9)
    assert branch.reused == 5 == branch.manifest.given
    steps, _ = studio.render(branch)
    assert {chunk for chunk, _ in steps} == {5, 6, 7}
    same_seed = go_on(studio, take, "0c a", 3, 5)
    assert same_seed.manifest.keys[:5] == branch.manifest.keys[:5]
    assert same_seed.manifest.keys[5] not in branch.manifest.keys


def test_what_cannot_be_continued(studio):
    """Forbids going on after chunks that are not there, in another size, or with another chunk."""
    take = studio.open()
    with pytest.raises(TakeError, match="has no chunk rendered yet"):
        go_on(studio, take, "0c a", 3)
    studio.render(take)
    with pytest.raises(TakeError, match=f"after chunk 1 to {CHUNKS}, not after 11"):
        go_on(studio, take, "0c a", 3, 11)
    with pytest.raises(TakeError, match="VAE of width 4, this one has 96"):
        wide = VaeIdentity("vae", "float32", 96)
        plan, given = extended(studio.store, take.id, 3, parse("0c a").plan(2.0), SIZE)
        open_take(studio.store, "", plan, take.origin, take.encoding, wide, given)
    take.manifest.origin["size"] = [64, 64]
    take.manifest.encoding |= {"width": 64, "height": 64}
    studio.store.write_manifest(take.manifest)
    with pytest.raises(TakeError, match="size 64 x 64"):
        extended(studio.store, take.id, 3, parse("0c a").plan(2.0), SIZE)
