"""LongLive for ComfyUI: films from a timeline of prompts. Everything of ComfyUI is imported in `nodes`, on demand."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """ComfyUI's way in: the extension with the pack's nodes."""
    from .nodes import LongLiveExtension

    return LongLiveExtension()
