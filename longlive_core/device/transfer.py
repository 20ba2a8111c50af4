"""Send tensors to a device without making the host wait."""

from __future__ import annotations

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on `device`.

    A copy from ordinary main memory to a GPU waits until all queued passes are done; from pinned memory it is queued
    after them. PyTorch keeps the pinned copy until the device has read it.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
