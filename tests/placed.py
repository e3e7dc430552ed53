"""Several devices where there is none: tensors that lie on "xla:1" by name, on the CPU in truth, and do not mix.

``several()`` is a context in which any device of type "xla" can be named: what is made on one, or moved there, is a
:class:`Placed`; an operation on tensors of two devices raises, as it does on GPUs (numbers without dimensions and
CPU indices may mix, and copies go anywhere). ``place(module, device)`` moves a module, and whatever it is called
with follows, as accelerate's hooks do for ``device_map="auto"`` (which can be put on here as well).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

ATEN = torch.ops.aten
CPU = torch.device("cpu")
# Operations that take CPU indices, or go from one device to another.
INDEXED = {
    ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default, ATEN._index_put_impl_.default,
}  # fmt: skip
WHOLE = (torch.nn.functional.scaled_dot_product_attention, torch.nn.functional.one_hot)
MOVES = {ATEN._to_copy.default, ATEN.copy_.default}


class Placed(torch.Tensor):
    """A tensor that says it lies on ``where``. To torch's own code it is one on "meta", which needs no driver."""

    held: torch.Tensor
    where: torch.device

    @staticmethod
    def __new__(cls, held: torch.Tensor, where: torch.device | None = None, requires_grad: bool = False) -> Placed:
        if isinstance(held, Placed):  # accelerate makes a parameter of the class that the old one had
            return held
        assert where is not None
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device="meta", requires_grad=held.requires_grad,
        )  # fmt: skip
        made.held, made.where = held, where
        return made  # type: ignore[no-any-return]

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.where

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Placed({self.held!r}, {self.device})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    first = args[0] if args and isinstance(args[0], torch.Tensor) else None
    where = {x.device for x in given if x.ndim or isinstance(x, Placed)}
    if func in INDEXED:
        where = {x.device for x in tree_flatten((args[0], args[2:]))[0] if isinstance(x, torch.Tensor) and x.ndim}
        where |= {x.device for x in tree_flatten(args[1])[0] if isinstance(x, torch.Tensor)} - {CPU}
    if len(where) > 1 and func not in MOVES:
        raise RuntimeError(f"{func}: Expected all tensors to be on the same device, but found {where}")
    target = first.device if func in MOVES and first is not None else next(iter(where), CPU)
    if kwargs.get("device") is not None:
        named = torch.device(kwargs["device"])
        target, kwargs = target if named.type == "meta" else named, {**kwargs, "device": CPU}
    bare = tree_map(lambda x: x.held if isinstance(x, Placed) else x, (args, kwargs))
    made = func(*bare[0], **bare[1])
    own = {id(x.held): x for x in given if isinstance(x, Placed)}

    def dressed(x: Any) -> Any:
        if not isinstance(x, torch.Tensor) or isinstance(x, Placed) or target.type == "cpu":
            return x
        return own[id(x)] if id(x) in own else Placed(x, target)

    return tree_map(dressed, made)


class _Watch(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Make(TorchFunctionMode):
    """What asks for a device past all dispatch: ``torch.tensor(..., device=...)`` and ``x.to(other tensor)``."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.tensor and kwargs.get("device") is not None:
            return func(*args, **{**kwargs, "device": CPU}).to(kwargs["device"])
        if func is torch.Tensor.to and len(args) == 2 and isinstance(args[1], torch.Tensor):
            return func(args[0], device=args[1].device, dtype=args[1].dtype)  # torch's own code reads "meta"
        if func is torch.Tensor.tolist and isinstance(args[0], Placed):
            return args[0].held.tolist()
        if func in WHOLE:
            return _run(func, args, kwargs)  # whole: its parts would be made on "meta"
        return func(*args, **kwargs)


@contextmanager
def several() -> Iterator[None]:
    """As long as it lasts, tensors can be made on devices that are not there."""
    with _Make(), _Watch():
        yield


def place(module: torch.nn.Module, device: str) -> None:
    """Put a module's weights on a device, and let what it is called with follow it there."""
    where = torch.device(device)
    for part in module.modules():
        for name, weight in list(part._parameters.items()):
            if weight is not None:
                moved = Placed(weight.data, where) if where.type != "cpu" else weight.data
                part._parameters[name] = torch.nn.Parameter(moved, requires_grad=False)
        for name, buffer in list(part._buffers.items()):
            if buffer is not None and where.type != "cpu":
                part._buffers[name] = Placed(buffer, where)

    def follow(_: Any, args: Any, kwargs: Any) -> Any:
        return tree_map(lambda x: x.to(where) if isinstance(x, torch.Tensor) else x, (args, kwargs))

    module.register_forward_pre_hook(follow, with_kwargs=True)
