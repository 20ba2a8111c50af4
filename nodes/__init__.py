"""The ComfyUI nodes, adapters over `longlive_core`. The only package that imports ComfyUI.

Nodes: load, timeline, sampler, quantize, takes. Their parts: inputs (of timeline and sampler), starts (how a film
begins), filming (one run of the sampler), handles (TAKE), stores and take_choices (stored takes), pocket_clip,
search_words. Folders: compat (all that depends on ComfyUI's version or internals), validation (errors of a queued
prompt), routes (HTTP).
"""

from comfy_api.latest import ComfyExtension

from . import compat
from .load import LongLiveLoad
from .quantize import LongLiveQuantizeINT8
from .routes.live import add_routes
from .sampler import LongLiveStreamSampler
from .takes import LongLiveBranchTake, LongLiveLoadTake, LongLiveTakeFrames
from .timeline import LongLivePromptTimeline

if (_routes := compat.server.routes()) is not None:
    add_routes(_routes)
compat.queued_prompt.watch_prompts()


class LongLiveExtension(ComfyExtension):
    async def get_node_list(self):
        return [
            LongLiveLoad,
            LongLivePromptTimeline,
            LongLiveStreamSampler,
            LongLiveQuantizeINT8,
            LongLiveTakeFrames,
            LongLiveLoadTake,
            LongLiveBranchTake,
        ]
