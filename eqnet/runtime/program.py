"""A packed network as one function on integers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from eqnet import _kernels
from eqnet.errors import InputError
from eqnet.packed.model import PackedModel
from eqnet.runtime import images as images  # registers its operations
from eqnet.runtime.builder import Builder, KernelBuilder
from eqnet.runtime.lowering import Lowering
from eqnet.runtime.tracing import trace
from eqnet.runtime.unsupported import UnsupportedError
from eqnet.tracing import ExampleInputs


class IntegerProgram:
    """A network that runs in C++ from its first layer to its last; all sums of products are exact integers.

    Its results are those of the packed model but for the rounding of floating point between the layers: a value that
    lies half-way between two codes may go to the other one.

    Attributes:
        in_shape: shape of one input, as compiled: [channels, height, width], or [features].
        vector: whether the result of one input is a vector.
    """

    def __init__(self, program: _kernels.Program, in_shape: tuple[int, ...], vector: bool) -> None:
        self._program = program
        self.in_shape = in_shape
        self.vector = vector

    def __call__(self, x: Tensor) -> Tensor:
        """The network's result.

        Args:
            x: float32, [N, channels, height, width] or [N, features] on the CPU; any N, and any size of image that the
                network takes. It must not hold NaN.

        Returns:
            float32 [N, outputs], or [N, channels, height, width] for networks that return images.

        Raises:
            InputError: ``x`` is of another type or shape.
        """
        if x.dtype != torch.float32 or x.device.type != "cpu":
            raise InputError(f"an integer program takes float32 on the CPU; found {x.dtype} on {x.device}")
        if x.ndim != len(self.in_shape) + 1 or x.shape[1] != self.in_shape[0]:
            raise InputError(f"expected inputs of shape [N, {', '.join(map(str, self.in_shape))}]; found {[*x.shape]}")
        x = x.detach().contiguous()
        height, width = (x.shape[2], x.shape[3]) if x.ndim == 4 else (1, 1)
        try:
            channels, rows, columns = self._program.result_size(height, width)
        except ValueError as e:
            raise InputError(f"inputs of shape {[*x.shape]} do not fit the network: {e}") from e
        shape = (x.shape[0], channels) if self.vector else (x.shape[0], channels, rows, columns)
        y = torch.empty(shape)
        self._program.run(x.data_ptr(), x.shape[0], height, width, y.data_ptr(), torch.get_num_threads())
        return y

    def arena_bytes(self, height: int = 1, width: int = 1) -> int:
        """Bytes of memory for what lies between the layers, for one input of this size."""
        return self._program.arena_bytes(height, width)


def compile(packed: PackedModel, example_inputs: ExampleInputs, *, isa: str = "") -> IntegerProgram:
    """Compiles a packed network whose layers all have static activation formats.

    Networks of 2-d convolutions, linear layers, ReLU and other clipping activations, sums, pooling and concatenation
    can be compiled; so can sizes of images and batches other than those of the example.

    Args:
        packed: what ``eqnet.pack`` or ``eqnet.load`` returned.
        example_inputs: one batch of its inputs: a tensor, alone or in a tuple or mapping.
        isa: use no better instruction set than this, one of ``portable``, ``neon``, ``avx2`` and ``avx512``; the best
            that the processor has, and that the environment variable ``EQNET_CPU`` allows, if empty.

    Raises:
        UnsupportedError: the model does something else; the message names it.
        InputError: the processor does not have the instruction set.

    Example::

        program = eqnet.runtime.compile(eqnet.load("digits-4bit"), x)
        logits = program(x)
    """
    x = single_image(example_inputs)
    try:
        builder = KernelBuilder(x.shape[1], isa)
    except ValueError as e:
        raise InputError(str(e)) from e
    result = lower(packed, x, builder)
    return IntegerProgram(builder.program, tuple(x.shape[1:]), vector=len(result) == 2)


def lower(packed: PackedModel, example: Tensor, builder: Builder) -> tuple[int, ...]:
    """Tells ``builder`` all operations of a network.

    Returns:
        The shape of its result for the example.

    Raises:
        UnsupportedError: integer programs cannot do one of them; the message names it.
    """
    result = Lowering(trace(packed.model, example), builder).run()
    shape: tuple[int, ...] = result.meta["shape"]
    return shape


def single_image(inputs: ExampleInputs) -> Tensor:
    """The one tensor that integer programs take; raises UnsupportedError if the inputs are something else."""
    values = [inputs] if isinstance(inputs, Tensor) else [*(inputs.values() if isinstance(inputs, Mapping) else inputs)]
    if len(values) != 1 or not isinstance(values[0], Tensor):
        raise UnsupportedError(f"integer programs take one tensor; the example inputs are {len(values)} values")
    x = values[0]
    if x.ndim not in (2, 4) or x.dtype != torch.float32 or not x.shape[0]:
        raise UnsupportedError(
            f"integer programs take float32 of shape [N, channels, height, width] or [N, features], with N > 0; found "
            f"{x.dtype} of shape {[*x.shape]}"
        )
    return x
