"""Which function computes a layer, and with which constants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from eqnet.export.tvm.recording import Convolve
from eqnet.export.tvm.tir import columns, dense
from eqnet.export.tvm.tir.dots import Dot
from eqnet.export.tvm.tir.emit import Argument, Buffer, Expr
from eqnet.export.tvm.tir.finish import finish_of_layer, inverse
from eqnet.export.tvm.tir.layout import Value, form_of
from eqnet.export.tvm.tir.weights import Weights, weights_of


@dataclass(frozen=True)
class Layer:
    """The function of a convolution. Equal ones can be shared.

    Attributes:
        spec: what it computes.
    """

    spec: dense.Dense | columns.Columns

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """All that it reads, then all that it writes."""
        finish = self.spec.finish
        codes = Argument(self.spec.input.bytes, "uint8", by_image=True)
        residual = [Argument(finish.image.floats, "float32", by_image=True)][: finish.residual]
        return (codes, *residual, *self.spec.constants, finish.table, *finish.outputs)

    def write(self, images: Expr, buffers: list[Buffer]) -> None:
        """Writes its statements."""
        if isinstance(self.spec, dense.Dense):
            dense.Body(self.spec, images, buffers).write()
        else:
            columns.Body(self.spec, images, buffers).write()


def layer(operation: Convolve, source: Value, result: Value, dot: Dot | None) -> tuple[Layer, list[npt.NDArray[Any]]]:
    """The function of one convolution, and its constants but for the table.

    Args:
        operation: the convolution.
        source: what it reads.
        result: what it writes.
        dot: the instruction for dot products, if there is one.
    """
    parameters = operation.parameters
    finish = finish_of_layer(result, residual=len(operation.inputs) > 1)
    factor = inverse(result.forms[0].coding) if finish.scaled else np.float32(1)
    weights = weights_of(parameters)
    shape: dict[str, Any] = {
        "input": source.codes(form_of(parameters)),
        "finish": finish,
        "kernel": parameters.kernel,
        "stride": parameters.stride,
        "dilation": parameters.dilation,
        "bits": weights.bits,
    }
    if dot is not None and _in_fours(operation, weights):
        group_size = weights.group_size if weights.scales > 1 else 0
        by_dots = dense.Dense(**shape, symmetric=weights.symmetric, group_size=group_size, dot=dot)
        return Layer(by_dots), dense.constants(by_dots, weights, parameters.input_zero, factor)
    one_by_one = columns.Columns(
        **shape, groups=parameters.groups, inputs=weights.codes.shape[1], group_size=weights.group_size
    )
    return Layer(one_by_one), columns.constants(one_by_one, weights, parameters.input_zero, factor)


def _in_fours(operation: Convolve, weights: Weights) -> bool:
    """Whether four neighbouring inputs always share a scale, and are all read by the same outputs."""
    p = operation.parameters
    one_scale = weights.scales == 1
    return p.groups == 1 and (one_scale or (p.kernel == (1, 1) and weights.group_size % dense.FOUR == 0))
