"""LongLive for ComfyUI: films from a timeline of prompts. Everything of ComfyUI is imported in `nodes`, on demand.

Of several copies in custom_nodes the first that works is used, whole; the others say so and register nothing, for
with the nodes of one and the routes and scripts of another nothing would fit.
"""

import logging
import os
import sys

_COPY_IN_USE = "comfyui_longlive.copy_in_use"  # in sys.modules: stays the same in all versions
_A_NODE = "LongLiveStreamSampler"


def _other_copy():
    """The folder's name of another copy of this pack that is in use, and its version if it tells; or None."""
    copy = sys.modules.get(_COPY_IN_USE)
    if copy is not None:
        return None if copy.__name__ == __name__ else (_folder(copy.__file__), _version(copy.__file__))
    node = getattr(sys.modules.get("nodes"), "NODE_CLASS_MAPPINGS", {}).get(_A_NODE)
    module = str(getattr(node, "RELATIVE_PYTHON_MODULE", ""))  # of a copy that leaves no mark
    name = module.rpartition(".")[2]
    return (name, "") if name and name != _folder(__file__) else None


def _folder(file):
    return os.path.basename(os.path.dirname(os.path.abspath(file)))


def _version(file):
    """As pyproject.toml has it, read without a parser; empty where it is not there."""
    try:
        with open(os.path.join(os.path.dirname(file), "pyproject.toml"), encoding="utf-8") as project:
            line = next((line for line in project if line.startswith("version")), "")
    except OSError:
        return ""
    return line.partition("=")[2].strip().strip('"')


def _warn(other, version):
    own = _version(__file__)
    versions = f" (versions {version} and {own})" if version and own and version != own else ""
    logging.warning(
        "ComfyUI-LongLive is installed twice%s: '%s' is used, '%s' is left out. Remove one of the two folders from "
        "custom_nodes, or give its name the ending .disabled, and start ComfyUI again.",
        versions,
        other,
        _folder(__file__),
    )


_other = _other_copy()
WEB_DIRECTORY = "./web" if _other is None else None
if _other is not None:
    _warn(*_other)


async def comfy_entrypoint():
    """ComfyUI's way in: the extension with the pack's nodes, or with none where another copy is in use."""
    if _other is not None:
        from comfy_api.latest import ComfyExtension

        class LeftOut(ComfyExtension):
            async def get_node_list(self):
                return []

        return LeftOut()
    from .nodes import LongLiveExtension

    sys.modules[_COPY_IN_USE] = sys.modules[__name__]
    return LongLiveExtension()
