"""A model whose weights are packed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eqnet.errors import ModelError
from eqnet.native import check_compute
from eqnet.packed.layers import PackedLayer
from eqnet.packed.record import Record


class PackedModel(nn.Module):
    """What ``eqnet.pack`` makes of a subnet, and ``eqnet.load`` of a folder.

    It only evaluates, whatever mode is asked for, and its own tensors take no gradients; gradients pass through it to
    its inputs, so that what is trained around it can be.

    Args:
        model: packed layers and what is left in floating point.
        record: what is known of it beside its tensors.
        compute: see the property.

    Attributes:
        model: as given; calling the packed model calls it.
        record: as given.
        layers: the packed layers by name, in the order in which the model declares them.
    """

    model: nn.Module

    def __init__(self, model: nn.Module, record: Record, compute: str = "float") -> None:
        super().__init__()
        self.model = model
        self.record = record
        self.layers = {name: module for name, module in model.named_modules() if isinstance(module, PackedLayer)}
        self.compute = compute
        self.requires_grad_(False)
        self.eval()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the model returns."""
        return self.model(*args, **kwargs)

    @property
    def compute(self) -> str:
        """How products with weights of layers whose input is in floating point are taken.

        ``float`` takes inputs as they are; ``int8`` rounds them, with a scale for every 32 columns of a row, which is
        faster and about half a percent off. Setting it sets it for every layer.
        """
        return self._compute

    @compute.setter
    def compute(self, compute: str) -> None:
        check_compute(compute)
        self._compute = compute
        for layer in self.layers.values():
            layer.compute = compute

    def prepare(self) -> PackedModel:
        """Makes all that the kernels read, which a layer does by itself when it is first called.

        Do so before ``torch.compile`` and ``torch.export``: to them, layers that are not prepared are slow ones.
        """
        for layer in self.layers.values():
            layer.prepare()
        return self

    def train(self, mode: bool = True) -> PackedModel:
        """Stays in evaluation mode: there is nothing to train, and no batch norm or dropout to switch."""
        return super().train(False)

    def stored(self) -> dict[str, Tensor]:
        """All that is stored, by its name in ``model``: tied tensors once, under their first name.

        Raises:
            ModelError: a module has state that is no tensor.
        """
        named, _ = self._named()
        bytes_ = {id(layer.input_zero_point) for layer in self.layers.values()}
        return {
            name: tensor.to(torch.uint8) if id(tensor) in bytes_ else tensor.detach() for name, tensor in named.items()
        }

    def tied(self) -> dict[str, str]:
        """Names of the tensors that are another one, and the name under which that one is stored."""
        return self._named()[1]

    def _named(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        first: dict[int, str] = {}
        named, tied = {}, {}
        for name, tensor in self.model.state_dict(keep_vars=True).items():
            if not isinstance(tensor, Tensor):
                raise ModelError(f"'{name}' is a {type(tensor).__name__}; only tensors can be stored: make it a buffer")
            if id(tensor) in first:
                tied[name] = first[id(tensor)]
            else:
                first[id(tensor)] = name
                named[name] = tensor
        return named, tied

    @property
    def nbytes(self) -> int:
        """Bytes of all that is stored; the budget ``bytes`` counts the same."""
        return sum(tensor.nbytes for tensor in self.stored().values())

    @property
    def bpw(self) -> float:
        """Stored bits per weight: codes, scales and zero points."""
        weights = {id(layer.codes): layer.weight for layer in self.layers.values()}.values()
        return 8 * sum(weight.nbytes for weight in weights) / sum(weight.rows * weight.cols for weight in weights)

    def save(self, folder: str | Path) -> None:
        """Writes ``config.json`` and the tensors into ``folder``; ``eqnet.load`` reads them again.

        Raises:
            InputError: a tensor cannot be stored.
            RunError: the folder holds something else or cannot be written.
        """
        from eqnet.packed.architecture import describe
        from eqnet.packed.artifact import write_artifact

        record = {**self.record.to_json(), "tied": self.tied()}
        write_artifact(folder, {**describe(self.model), "quantization_config": record}, self.stored())

    def __repr__(self) -> str:
        title = f"PackedModel of {type(self.model).__name__}: {self.nbytes:,} bytes, {self.bpw:.2f} bits per weight"
        norms = {layer: norm for norm, layer in self.record.folded.items()}
        seen: set[int] = set()
        rows = []
        for name, layer in self.layers.items():
            nbytes = sum(part.nbytes for part in layer.stored().values())
            if id(layer.codes) in seen:
                nbytes -= layer.weight.nbytes
            seen.add(id(layer.codes))
            rows.append(
                (
                    name,
                    layer.kind.__name__,
                    f"{layer.weight_format} × {layer.input_format or 'float'}",
                    f"{nbytes:,} bytes",
                    f"with {norms[name]}" if name in norms else "",
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows)
        return "\n  ".join([title, *lines])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PackedModel:
        """Keeps tied buffers one, which torch moves one by one."""
        tied = self.tied()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, first in tied.items():
            (owner, leaf), (other, its) = (_owner(self.model, path) for path in (name, first))
            if leaf in owner._buffers:
                owner._buffers[leaf] = other._buffers[its]
        return self


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that holds the tensor ``name``, and its name there."""
    path, _, leaf = name.rpartition(".")
    return model.get_submodule(path), leaf
