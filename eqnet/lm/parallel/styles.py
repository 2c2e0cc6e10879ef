"""How packed layers are split among processes, as styles of ``torch.distributed.tensor.parallel``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.distributed.tensor.parallel import ParallelStyle

from eqnet.errors import ModelError
from eqnet.lm.parallel.slicing import Span, columns_of, rows_of
from eqnet.packed.layers import PackedEmbedding, PackedLayer, PackedLinear
from eqnet.packed.layers.base import LayerWeight
from eqnet.packed.mapping import release
from eqnet.packed.tensor import PackedTensor


class PartLinear(PackedLinear):
    """A part of a packed linear layer.

    On the CPU it is kept as the kernels read it alone: the stored form was cut out of the file, and would only take
    as much memory again.

    Attributes:
        part_bytes: of the part as it is stored.
    """

    part_bytes: int

    def keep_panels(self) -> None:
        """Prepares the layer and gives the stored form back, where there are kernels."""
        self.prepare()
        if self._prepared is not None:
            for name in ("codes", "scale", "zero_point"):
                if getattr(self, name) is not None:
                    setattr(self, name, torch.empty(0, dtype=torch.uint8))

    @property
    def weight(self) -> LayerWeight:
        """The packed part; raises ModelError if it is kept for the kernels alone."""
        if self.codes.numel() == 0 and self.rows * self.cols:
            raise ModelError(f"layer '{self.path}': of this part only what the kernels read is in memory")
        return super().weight


class PackedColwise(ParallelStyle):
    """Splits a packed linear layer by its outputs; the input is whole, and each process has its part of the output.

    Args:
        parts: layers that were joined into one, each of which is split by itself: 2 of gate and up, 3 of q, k and v.
    """

    def __init__(self, parts: int = 1) -> None:
        super().__init__()
        self.parts = parts

    def _apply(self, module: nn.Module, device_mesh: Any) -> nn.Module:
        assert isinstance(module, PackedLinear)
        spans = part_spans(module.rows, device_mesh.get_local_rank(), device_mesh.size(), self.parts)
        bias = None if module.bias is None else torch.cat([module.bias[start:stop] for start, stop in spans])
        return _become(module, rows_of(module.weight, spans), bias)


class PackedRowwise(ParallelStyle):
    """Splits a packed linear layer by its inputs; each process has its part of the input, and the sum is everyone's."""

    def _apply(self, module: nn.Module, device_mesh: Any) -> nn.Module:
        assert isinstance(module, PackedLinear)
        rank = device_mesh.get_local_rank()
        weight = columns_of(module.weight, rank, device_mesh.size())
        bias = None if module.bias is None or rank else module.bias.clone()  # it is to be added once
        _become(module, weight, bias)

        def summed(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            return _everywhere(output, device_mesh, Partial())

        module.register_forward_hook(summed)
        return module


class PackedHead(ParallelStyle):
    """Splits the output head by tokens of the vocabulary; the logits are gathered in every process."""

    def _apply(self, module: nn.Module, device_mesh: Any) -> nn.Module:
        assert isinstance(module, PackedLinear)
        rows, span = module.rows, vocabulary_span(module.rows, device_mesh.get_local_rank(), device_mesh.size())
        bias = None if module.bias is None else module.bias[slice(*span)].clone()
        _become(module, rows_of(module.weight, [span]), bias)

        def gathered(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            shape = torch.Size([*output.shape[:-1], rows])
            stride = torch.empty(shape, device="meta").stride()
            whole = DTensor.from_local(
                output.contiguous(), device_mesh, [Shard(output.ndim - 1)], run_check=False, shape=shape, stride=stride
            )
            return whole.full_tensor()

        module.register_forward_hook(gathered)
        return module


class SameHead(ParallelStyle):
    """Leaves the output head whole, and gives all processes the logits of the first, to the last bit."""

    def _apply(self, module: nn.Module, device_mesh: Any) -> nn.Module:
        def same(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            output = output.contiguous()
            distributed.broadcast(output, 0, group=device_mesh.get_group())
            return output

        module.register_forward_hook(same)
        return module


class PackedTable(ParallelStyle):
    """Splits a packed embedding by tokens of the vocabulary; each process looks up those that it has."""

    def _apply(self, module: nn.Module, device_mesh: Any) -> nn.Module:
        assert isinstance(module, PackedEmbedding)
        start, stop = vocabulary_span(module.rows, device_mesh.get_local_rank(), device_mesh.size())
        _become(module, rows_of(module.weight, [(start, stop)]), None)
        here: list[Tensor] = []

        def own(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            here[:] = [(inputs[0] >= start) & (inputs[0] < stop)]
            return (torch.where(here[0], inputs[0] - start, 0),)

        def summed(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            return _everywhere(output * here[0][..., None], device_mesh, Partial())

        module.register_forward_pre_hook(own)
        module.register_forward_hook(summed)
        return module


def part_spans(rows: int, rank: int, size: int, parts: int = 1) -> list[Span]:
    """The rows of process ``rank`` of ``size``, in each of ``parts`` equal parts."""
    whole = rows // parts
    own = whole // size
    return [(part * whole + rank * own, part * whole + (rank + 1) * own) for part in range(parts)]


def vocabulary_span(rows: int, rank: int, size: int) -> Span:
    """The tokens of process ``rank``; the last ones have fewer if they do not divide, as DTensor has it."""
    own = -(-rows // size)
    return min(rank * own, rows), min((rank + 1) * own, rows)


def _everywhere(output: Tensor, mesh: Any, placement: Partial) -> Tensor:
    """What the processes' outputs are together, in each of them."""
    split = DTensor.from_local(output, mesh, [placement], run_check=False)
    return split.redistribute(placements=[Replicate()]).to_local()


def _become(layer: PackedLayer, part: PackedTensor, bias: Tensor | None) -> nn.Module:
    """Makes ``layer`` the layer of a part of its weight; the pages of the whole one go back to the file."""
    before: Sequence[Tensor | None] = (layer.codes, layer.scale, layer.zero_point)
    layer.weight_format, layer.rows, layer.cols = part.format, part.rows, part.cols
    layer.shape = torch.Size([part.rows, part.cols])
    layer.codes, layer.scale, layer.zero_point, layer.bias = part.codes, part.scale, part.zero_point, bias
    if isinstance(layer, PackedLinear):
        layer._prepared = None
        layer.in_features, layer.out_features = part.cols, part.rows
        layer.__class__ = PartLinear
        assert isinstance(layer, PartLinear)
        layer.part_bytes = part.nbytes
        layer.keep_panels()
    for whole in before:
        if whole is not None:
            release(whole)
    return layer
