"""Tensors to a device without making the host wait for it."""

from __future__ import annotations

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on `device`.

    Out of ordinary main memory a copy to a GPU waits until all passes queued before are done; out of pinned memory it
    queues behind them. PyTorch keeps the pinned copy until the device has read it.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
