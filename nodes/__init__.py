"""ComfyUI's nodes: adapters over `longlive_core`, one file a node. The only package that imports ComfyUI."""

from comfy_api.latest import ComfyExtension

from .load import LongLiveLoad
from .quantize import LongLiveQuantizeINT8
from .sampler import LongLiveStreamSampler
from .timeline import LongLivePromptTimeline


class LongLiveExtension(ComfyExtension):
    async def get_node_list(self):
        return [LongLiveLoad, LongLivePromptTimeline, LongLiveStreamSampler, LongLiveQuantizeINT8]
