"""ComfyUI's nodes: adapters over `longlive_core`, one file a node. The only package that imports ComfyUI."""

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
