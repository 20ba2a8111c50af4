"""Films of the toybox as files, with the tags that the renderer writes."""

from longlive_core.config import StreamConfig
from longlive_core.film.tags import film_metadata
from longlive_core.film.video import FilmWriter
from longlive_core.timeline import parse
from longlive_core.toybox.captions import attributes_of
from longlive_core.toybox.world import film

STORY = "0s A red ball rests on the sea.\n4s A red ball rests at night."
SECONDS = 10


def write_film(path, frames, tags=None, fps=16):
    with FilmWriter(path, frames.shape[2], frames.shape[1], fps=fps, metadata=tags) as writer:
        writer.write(frames)
    return str(path)


def write_truth(path, text=STORY, seconds=SECONDS, frames=None):
    """Render the toybox's own film of a timeline; `frames`: only its first frames, as of a stopped film."""
    plan = parse(text).plan(seconds)
    pictures = film([(part.start_frame, attributes_of(part.text)) for part in plan.segments], plan.frames)[0]
    return write_film(path, pictures[:frames], film_metadata(text, plan, StreamConfig(), 0, (128, 80), "truth"))
