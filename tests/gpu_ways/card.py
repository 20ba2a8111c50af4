"""A graphics card that is not there: tensors say they are on `cuda:0` and compute on the CPU, as a GPU would let them.

Inside `with Card() as card:` a tensor created on or moved to `cuda:0` is an `OnCard`. Its numbers are in main memory,
so a film has real values, but everything that a real card refuses or waits for is seen:

- an operation on tensors of both devices raises, as it does on a card (0-dimensional CPU tensors may join in);
- what makes the host wait for the card (`.item()`, `nonzero`, copies to and from memory that is not pinned) is recorded
  with the line of the pack that caused it, and so is every float64 number that reaches the card.

For inference mode, in which ComfyUI's nodes run: there every operation arrives here whole.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from .events import Event, calling_line

MEMORY = 64 << 30
CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")

aten = torch.ops.aten
MOVES = {"aten::to", "aten::_to_copy"}
PINS = {"aten::pin_memory", "aten::_pin_memory"}
WAITS = {
    "aten::item",
    "aten::_local_scalar_dense",
    "aten::is_nonzero",
    "aten::nonzero",
    "aten::masked_select",
    "aten::equal",
    "aten::unique_dim",
    "aten::_unique2",
    "aten::bincount",
}
INDEXING = {"aten::index", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_"}
# PyTorch's own entries to these look for the driver of the card first.
GUARDED = {
    Tensor.copy_: aten.copy_.default,
    Tensor.contiguous: aten.contiguous.default,
    Tensor.nonzero: aten.nonzero.default,
    Tensor.__invert__: aten.bitwise_not.default,
}
MAKERS = (torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor)  # fill a tensor on the CPU, then move it


class OnCard(Tensor):
    """A tensor that says it is on the card. `held`: its numbers."""

    @staticmethod
    def __new__(cls, held: Tensor):
        self = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            dtype=held.dtype,
            device=CUDA,
            storage_offset=held.storage_offset(),
            requires_grad=False,
        )
        self.held = held
        return self

    __torch_function__ = torch._C._disabled_torch_function_impl  # results do not become tensors of this kind

    def as_subclass(self, kind: type) -> Tensor:
        """Only what it is on the CPU may be forgotten, as for looking at bytes."""
        return self if type(self) is OnCard else OnCard(self.held.as_subclass(Tensor))

    def __repr__(self, **options):
        return f"OnCard({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        raise AssertionError(f"{operation} on a tensor of the card after its time")


@cache
def _kind_on_card(kind: type) -> type:
    """Subclasses of others, such as packed weights, stay what they are when they are moved."""
    plain = kind in (Tensor, torch.nn.Parameter) or issubclass(kind, OnCard)
    return OnCard if plain else type(f"{kind.__name__}OnCard", (OnCard, kind), {})


class Card:
    """The card, and what was seen on it (`events`). One at a time."""

    def __init__(self):
        self.events: list[Event] = []
        self._pinned: dict[int, torch.UntypedStorage] = {}
        self._special = {
            **dict.fromkeys(MOVES, self._move),
            **dict.fromkeys(PINS, lambda operation, given: self.pin(given["self"])),
            "aten::copy_": lambda operation, given: self.copy(given["self"], given["src"], given.get("non_blocking")),
            "aten::is_pinned": lambda operation, given: self.is_pinned(given["self"]),
            # called by Module.to, which creates new parameters where they differ in this
            "aten::_has_compatible_shallow_copy_type": lambda operation, given: (
                not any(isinstance(given[name], OnCard) for name in ("self", "from"))
            ),
        }

    def __enter__(self) -> Card:
        driver = self._driver()
        self._real_driver = {name: getattr(torch.cuda, name) for name in driver}
        torch.cuda.__dict__.update(driver)
        self._real_generator, torch.Generator = torch.Generator, _Generator
        self._modes = [_Operations(self), _Python(self)]
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)
        torch.cuda.__dict__.update(self._real_driver)
        torch.Generator = self._real_generator

    def _driver(self) -> dict:
        """What PyTorch requests of a driver, beside computing."""
        note = self.note

        class Stream:
            def __init__(self, *args, **options):
                self.device, self.cuda_stream = CUDA, 0

            def synchronize(self):
                note("wait", type(self).__name__ + ".synchronize")

            def query(self) -> bool:
                return True

            def record_event(self, event=None):
                return event or Stream()

            wait_stream = wait_event = record = wait = lambda self, *args: None

        properties = SimpleNamespace(
            name="a card that is not there", total_memory=MEMORY, major=8, minor=6, multi_processor_count=1
        )
        return {
            "_lazy_init": lambda: None,
            "get_device_name": lambda device=None: properties.name,
            "get_device_properties": lambda device=None: properties,
            "current_device": lambda: 0,
            "get_device_capability": lambda device=None: (8, 6),
            "mem_get_info": lambda device=None: (MEMORY, MEMORY),
            "memory_reserved": lambda device=None: 0,
            "memory_allocated": lambda device=None: 0,
            "max_memory_allocated": lambda device=None: 0,
            "reset_peak_memory_stats": lambda device=None: None,
            "memory_stats": lambda device=None: {"active_bytes.all.current": 0, "reserved_bytes.all.current": 0},
            "synchronize": lambda device=None: note("wait", "torch.cuda.synchronize"),
            "Stream": Stream,
            "Event": Stream,
            "current_stream": lambda device=None: Stream(),
            "default_stream": lambda device=None: Stream(),
            "stream": lambda stream: nullcontext(),
        }

    # --- what operations do

    def run(self, operation, args: tuple, kwargs: dict):
        name = operation._schema.name
        special = self._special.get(name)
        return (
            self._compute(operation, name, args, kwargs)
            if special is None
            else special(operation, _named(operation, args, kwargs))
        )

    def _move(self, operation, given: dict):
        source, other = given["self"], given.get("other")
        dtype = given.get("dtype") or (other.dtype if other is not None else source.dtype)
        target = given.get("device") or (other.device if other is not None else source.device)
        here, there = isinstance(source, OnCard), torch.device(target).type == "cuda"
        copy = here != there or given.get("copy", False) or operation._schema.name == "aten::_to_copy"
        layout = given.get("memory_format") or torch.preserve_format
        made = _held(source).to(dtype=dtype, copy=copy, memory_format=layout)
        if here != there:
            self._moved(source, up=there, waits=not given.get("non_blocking", False))
        if made is _held(source):
            return source
        return self.wrap(made, operation, type(source)) if there else made

    def copy(self, target: Tensor, source: Tensor, non_blocking: bool | None) -> Tensor:
        up, down = isinstance(target, OnCard), isinstance(source, OnCard)
        if up != down:
            self._moved(source if up else target, up=up, waits=not non_blocking)
        _held(target).copy_(_held(source))
        return target

    def _moved(self, on_host: Tensor, up: bool, waits: bool) -> None:
        """The host waits for a copy unless it need not wait (non_blocking) and its side of the memory is pinned."""
        if waits or not self.is_pinned(_held(on_host)):
            how = "copy" if waits else "unpinned copy"
            self.note("upload" if up else "download", f"{how} of {tuple(on_host.shape)}")

    def _compute(self, operation, name: str, args: tuple, kwargs: dict):
        leaves = list(_tensors((args, kwargs)))
        on_card = any(isinstance(leaf, OnCard) for leaf in leaves)
        if on_card and name in INDEXING:
            self._index(name, _named(operation, args, kwargs)["indices"])
        elif on_card:
            self._refuse_mixed(operation, leaves)
            if name in WAITS:
                self.note("wait", name)
        device, pinned = kwargs.get("device"), bool(kwargs.get("pin_memory"))
        if device is not None and (on_card := torch.device(device).type == "cuda"):
            kwargs = {**kwargs, "device": CPU}
        if pinned:
            kwargs = {**kwargs, "pin_memory": False}
        made = operation(*_map(_held, args), **_map(_held, kwargs)) if leaves else operation(*args, **kwargs)
        if pinned:
            return self.pin(made, copy=False)
        return self._wrapped_like(made, leaves, operation) if on_card else made

    def _index(self, name: str, index) -> None:
        """Places may be given by tensors of either side; those of the CPU are copied, and a mask has to be counted."""
        for leaf in _tensors(index):
            if leaf.ndim and not isinstance(leaf, OnCard):
                self.note("upload", f"{name} at {tuple(leaf.shape)}")
            if leaf.dtype in (torch.bool, torch.uint8):
                self.note("wait", f"{name} with a mask")

    def _refuse_mixed(self, operation, leaves: list[Tensor]) -> None:
        strangers = [leaf for leaf in leaves if not isinstance(leaf, OnCard) and leaf.ndim]
        if strangers:
            shapes = ", ".join(str(tuple(leaf.shape)) for leaf in strangers)
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but {operation} found some on cuda:0 "
                f"and {shapes} on the CPU, in {calling_line()[0]}"
            )

    def _wrapped_like(self, made, leaves: list[Tensor], operation):
        """Return an operation's result, on the card; a tensor changed in place is returned itself."""
        known = {id(leaf.held): leaf for leaf in leaves if isinstance(leaf, OnCard)}
        return _map(lambda leaf: known[id(leaf)] if id(leaf) in known else self.wrap(leaf, operation), made)

    def wrap(self, made, operation, kind: type = Tensor):
        """Put the result of an operation on the card. kind: class of the tensor, which stays the same there."""
        if not isinstance(made, Tensor) or isinstance(made, OnCard):
            return made
        if made.dtype in (torch.float64, torch.complex128):
            self.note("float64", str(operation))
        return OnCard.__new__(_kind_on_card(kind), made)

    # --- pinned memory

    def pin(self, tensor: Tensor, copy: bool = True) -> Tensor:
        pinned = tensor.clone() if copy else tensor
        storage = pinned.untyped_storage()
        self._pinned[storage.data_ptr()] = storage  # kept, so that no other tensor gets its place
        return pinned

    def is_pinned(self, tensor: Tensor) -> bool:
        return not isinstance(tensor, OnCard) and tensor.untyped_storage().data_ptr() in self._pinned

    def note(self, kind: str, operation: str) -> None:
        self.events.append(Event(kind, operation, *calling_line()))


class _Generator(torch.Generator):
    """Of random numbers, for either device."""

    def __new__(cls, device="cpu"):
        return super().__new__(cls, device="cpu")


class _Operations(TorchDispatchMode):
    def __init__(self, card: Card):
        super().__init__()
        self.card = card

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        own = next((kind for kind in types if _computes_itself(kind)), None)
        if own is not None:  # such as a host's quantised tensors: what they do with their parts comes here
            with self, _Python(self.card):
                return own.__torch_dispatch__(operation, types, args, kwargs or {})
        return self.card.run(operation, args, kwargs or {})


class _Python(TorchFunctionMode):
    """What PyTorch does with a device before any operation: reading and writing by index, filling with numbers."""

    def __init__(self, card: Card):
        super().__init__()
        self.card = card

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], OnCard):
            return self._index(function, *args)
        if function in GUARDED and args[0].is_cuda:
            with _Python(self.card):  # for what a tensor that computes itself does inside
                return GUARDED[function](*args, **kwargs)
        if function in MAKERS:
            return self._make(function, args, kwargs)
        if function in (Tensor.tolist, Tensor.numpy, Tensor.__array__) and isinstance(args[0], OnCard):
            if function is not Tensor.tolist:
                raise TypeError(f"can't convert cuda:0 device type tensor to numpy, in {calling_line()[0]}")
            self.card.note("wait", "tolist")
            return args[0].held.tolist()
        return function(*args, **kwargs)

    def _index(self, function, tensor: OnCard, index, *value):
        self.card._index(function.__name__, index)
        for leaf in _tensors(value):
            if not isinstance(leaf, OnCard) and leaf.ndim:
                self.card.note("upload", f"{function.__name__} of {tuple(leaf.shape)}")
        made = function(tensor.held, _map(_held, index), *_map(_held, value))
        return self.card.wrap(made, function.__name__)

    def _make(self, function, args: tuple, kwargs: dict):
        like = args[0] if isinstance(args[0], OnCard) else None
        target = kwargs.get("device") or (CUDA if like is not None else None)
        if function is Tensor.new_tensor:
            made = torch.tensor(*args[1:], dtype=kwargs.get("dtype") or args[0].dtype)
        elif like is not None:  # as_tensor of a tensor
            return like.to(kwargs.get("dtype") or like.dtype)
        else:
            made = function(*args, **{**kwargs, "device": CPU} if "device" in kwargs else kwargs)
        return made if target is None else made.to(target)


@cache
def _computes_itself(kind: type) -> bool:
    return not issubclass(kind, OnCard) and kind.__torch_dispatch__ is not torch._C._disabled_torch_dispatch_impl


def _named(operation, args: tuple, kwargs: dict) -> dict:
    return {**dict(zip((argument.name for argument in operation._schema.arguments), args, strict=False)), **kwargs}


def _held(leaf):
    return leaf.held if isinstance(leaf, OnCard) else leaf


def _map(function, given):
    """The same nest of tuples, lists and dictionaries, with function(leaf) in the place of each leaf."""
    if isinstance(given, (tuple, list)):
        return type(given)(_map(function, part) for part in given)
    if isinstance(given, dict):
        return {name: _map(function, part) for name, part in given.items()}
    return function(given)


def _tensors(given):
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, (tuple, list)):
        for part in given:
            yield from _tensors(part)
    elif isinstance(given, dict):
        for part in given.values():
            yield from _tensors(part)
