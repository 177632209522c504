"""Parameters and layers of a module that were replaced after it was compiled.

    owned = Owned(module)
    owned.replaced()            # {name: tensor} since the last time

PyTorch tells hooks of each tensor and layer that is registered, and they count those of compiled
modules. A call looks at its module's tensors only where the count has moved. What is written past
the registration (into `_parameters` itself, or into an attribute that is a plain tensor), and what
is set to None or deleted, is not seen: PyTorch tells nobody.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.nn.modules import module as hooks

from ferrule.base.errors import InputError

registrations = [0]  # how often something was registered in a module of a compiled one
_watched: weakref.WeakValueDictionary[int, torch.nn.Module] = weakref.WeakValueDictionary()
_hooked = False


def _on_registration(owner: torch.nn.Module, name: str, value: Any) -> None:
    if _watched.get(id(owner)) is owner:
        registrations[0] += 1


def _watch(modules: Iterable[torch.nn.Module]) -> None:
    global _hooked
    if not _hooked:
        hooks.register_module_parameter_registration_hook(_on_registration)
        hooks.register_module_buffer_registration_hook(_on_registration)
        hooks.register_module_module_registration_hook(_on_registration)
        _hooked = True
    _watched.update({id(m): m for m in modules})


class Owned:
    """The tensors and layers of a module as they were when it was captured, by name, and how many
    registrations had been `seen` by then.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self._module, self.seen = module, registrations[0]
        self._layers, self._tensors = _layers(module), _tensors(module)
        _watch(self._layers.values())

    def replaced(self) -> dict[str, torch.Tensor]:
        """The tensors that stand in the place of others now, by name.

        Raises InputError where a layer was replaced by one of another kind, or tensors that were
        one are two: the program does not hold for these.
        """
        layers, tensors = _layers(self._module), _tensors(self._module)
        for name, old in self._layers.items():
            if not _alike(old, layers.get(name)):
                raise InputError(f"the layer {name!r} was replaced by another kind{_AGAIN}")
        if layers.keys() != self._layers.keys() or tensors.keys() != self._tensors.keys():
            raise InputError(f"layers or parameters were added to the module or removed{_AGAIN}")
        if _shared(tensors) != _shared(self._tensors):
            raise InputError(f"parameters that were one tensor are two, or two are one{_AGAIN}")
        new = {n: t for n, t in tensors.items() if t is not self._tensors[n]}
        _watch(layers.values())
        self._layers, self._tensors = layers, tensors
        return new


_AGAIN = " since it was compiled: compile it again"


def _layers(module: torch.nn.Module) -> dict[str, torch.nn.Module]:
    return dict(module.named_modules(remove_duplicate=False))


def _tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def _shared(tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    """The first of the names that each name's tensor has."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(t), name) for name, t in tensors.items()}


def _alike(old: torch.nn.Module, new: torch.nn.Module | None) -> bool:
    """Whether one layer computes what another does, as far as their kinds and arguments tell."""
    if old is new:
        return True
    if new is None or type(old) is not type(new) or repr(old) != repr(new):
        return False
    code = getattr(type(old).forward, "__code__", None)
    trains = code is None or "training" in code.co_names
    return not trains or old.training == new.training
