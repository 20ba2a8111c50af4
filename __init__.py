"""LongLive for ComfyUI: films from a timeline of prompts. ComfyUI's modules are imported in `nodes` only, on demand.

If custom_nodes contains several copies, only the first that works is used; the others log a warning and register
nothing, because the nodes of one copy do not fit the routes and scripts of another.
"""

import logging
import os
import sys

_COPY_IN_USE = "comfyui_longlive.copy_in_use"  # key in sys.modules; the same in all versions
_A_NODE = "LongLiveStreamSampler"


def _other_copy():
    """Return the folder name and the version (or "") of another copy of this pack that is in use; None without one."""
    copy = sys.modules.get(_COPY_IN_USE)
    if copy is not None:
        return None if copy.__name__ == __name__ else (_folder(copy.__file__), _version(copy.__file__))
    node = getattr(sys.modules.get("nodes"), "NODE_CLASS_MAPPINGS", {}).get(_A_NODE)
    module = str(getattr(node, "RELATIVE_PYTHON_MODULE", ""))  # a copy of a version without that key
    name = module.rpartition(".")[2]
    return (name, "") if name and name != _folder(__file__) else None


def _folder(file):
    return os.path.basename(os.path.dirname(os.path.abspath(file)))


def _version(file):
    """Return the version in pyproject.toml, read without a parser; "" if there is none."""
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
        "ComfyUI-LongLive is installed twice%s: '%s' is used, '%s' is ignored. Remove one of the two folders from "
        "custom_nodes, or add .disabled to its name, and restart ComfyUI.",
        versions,
        other,
        _folder(__file__),
    )


_other = _other_copy()
WEB_DIRECTORY = "./web" if _other is None else None
if _other is not None:
    _warn(*_other)


async def comfy_entrypoint():
    """Return the extension with the pack's nodes, or without nodes if another copy is in use; ComfyUI calls this."""
    if _other is not None:
        from comfy_api.latest import ComfyExtension

        class LeftOut(ComfyExtension):
            async def get_node_list(self):
                return []

        return LeftOut()
    from .nodes import LongLiveExtension

    sys.modules[_COPY_IN_USE] = sys.modules[__name__]
    return LongLiveExtension()
