"""How much memory code holds at its widest moment, from the shapes alone: run it on `meta` tensors inside `Peak`."""

import weakref

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Peak(TorchDispatchMode):
    """Counts the bytes of tensors that are made inside the block and still alive; `peak` is the most at once."""

    def __init__(self):
        super().__init__()
        self._live, self.now, self.peak = {}, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            return True  # "is everything finite?" has no answer on `meta`
        out = func(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._count(tensor, given)
        self.peak = max(self.peak, self.now)
        return out

    def _count(self, tensor, given):
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in given and key not in self._live:
            return  # a view of something from outside
        entry = self._live.setdefault(key, [storage.nbytes(), 0])
        self.now += 0 if entry[1] else entry[0]
        entry[1] += 1
        weakref.finalize(tensor, self._forget, key)

    def _forget(self, key):
        entry = self._live[key]
        entry[1] -= 1
        if not entry[1]:
            self.now -= entry[0]
            del self._live[key]
