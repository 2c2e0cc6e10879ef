"""A packed network as an IRModule: one TIR function for each kind and shape of operation, and a Relax function."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import numpy.typing as npt
from tvm import relax, tirx

from eqnet.export.tvm.recording import Convolve, Operation, Recording
from eqnet.export.tvm.tir.dots import Dot
from eqnet.export.tvm.tir.emit import Argument, Buffer, Expr, function
from eqnet.export.tvm.tir.ends import Input, Output, answer, read
from eqnet.export.tvm.tir.finish import Writer, finish_of, table
from eqnet.export.tvm.tir.layers import layer
from eqnet.export.tvm.tir.layout import Form, Value, form_of, plan
from eqnet.export.tvm.tir.pixels import BODIES, between

Write = Callable[[Expr, list[Buffer]], None]
Arrays = list[npt.NDArray[Any]]

FLOATS = None
"""Stands for the floating-point form of a value."""


class ModuleWriter:
    """An IRModule in the making, of one network or several that share functions.

    Args:
        dot: the instruction for dot products, if there is one.

    Attributes:
        dot: as given.
        builder: of the module.
    """

    def __init__(self, dot: Dot | None) -> None:
        self.dot = dot
        self.builder = relax.BlockBuilder()
        self._functions: dict[Hashable, Any] = {}

    def add(self, name: str, recording: Recording, shape: tuple[int, ...]) -> None:
        """Adds a network as a Relax function.

        Args:
            name: of the function.
            recording: the network.
            shape: of one input, as it is given.
        """
        _Network(self, recording, shape).write(name)

    def function(self, name: str, key: Hashable, arguments: tuple[Argument, ...], write: Write) -> Any:
        """The function that stands for ``key``, written once."""
        if key not in self._functions:
            self._functions[key] = self.builder.add_func(function(arguments, write), name)
        return self._functions[key]

    def module(self) -> Any:
        """All of it."""
        return self.builder.get()


class _Network:
    def __init__(self, writer: ModuleWriter, recording: Recording, shape: tuple[int, ...]) -> None:
        self.writer, self.builder = writer, writer.builder
        self.recording, self.shape = recording, shape
        self.values = plan(recording)
        self.images = tirx.Var("n", "int64")
        self._forms: dict[tuple[int, Form | None], Any] = {}

    def write(self, name: str) -> None:
        """Adds the function."""
        x = relax.Var("x", relax.TensorType((self.images, *self.shape), "float32"))
        with self.builder.function(name, [x]):
            with self.builder.dataflow():
                self._input(x)
                for i, operation in enumerate(self.recording.operations):
                    self._operation(operation, i + 1)
                result = self.builder.emit_output(self._answer())
            self.builder.emit_func_output(result)

    def _input(self, x: Any) -> None:
        spec = Input(finish_of(self.values[0]), self.shape)

        def write(images: Expr, buffers: list[Buffer]) -> None:
            read(spec, images, buffers[0], Writer(spec.finish, buffers[1], buffers[2:]))

        arguments = (spec.argument, spec.finish.table, *spec.finish.outputs)
        self._call("input", spec, arguments, write, [x], [table(self.values[0])], 0)

    def _operation(self, operation: Operation, result: int) -> None:
        value = self.values[result]
        if isinstance(operation, Convolve):
            source = self.values[operation.inputs[0]]
            spec, constants = layer(operation, source, value, self.writer.dot)
            inputs = [self._forms[operation.inputs[0], form_of(operation.parameters)]]
            inputs += [self._forms[x, FLOATS] for x in operation.inputs[1:]]
            self._call("layer", spec, spec.arguments, spec.write, inputs, [*constants, table(value)], result)
            return
        kind = type(operation).__name__
        images = tuple(self.values[x].image for x in operation.inputs)
        other = between(operation, images, finish_of(value))
        count = len(images)

        def write(images: Expr, buffers: list[Buffer]) -> None:
            writer = Writer(other.finish, buffers[count], buffers[count + 1 :])
            BODIES[kind](other, images, buffers[:count], writer)

        inputs = [self._forms[x, FLOATS] for x in operation.inputs]
        arguments = (*other.arguments, other.finish.table, *other.finish.outputs)
        self._call(kind.lower(), (kind, other), arguments, write, inputs, [table(value)], result)

    def _answer(self) -> Any:
        spec = Output(self.values[self.recording.result].image, self.recording.vector)
        result = self._forms[self.recording.result, FLOATS]
        function_ = self.writer.function("output", spec, spec.arguments, partial(_answer, spec))
        return relax.call_tir(function_, [result], out_ty=self._type(spec.arguments[-1]))

    def _call(
        self,
        name: str,
        key: Hashable,
        arguments: tuple[Argument, ...],
        write: Write,
        inputs: list[Any],
        constants: Arrays,
        result: int,
    ) -> None:
        """Calls the function of one operation, and keeps all forms of its result."""
        value: Value = self.values[result]
        forms: list[Form | None] = [*value.forms, *[FLOATS][: value.floats]]
        if not forms:
            return  # nothing reads it
        types = [self._type(argument) for argument in arguments[-len(forms) :]]
        called = relax.call_tir(
            self.writer.function(name, key, arguments, write),
            [*inputs, *(relax.const(constant) for constant in constants)],
            out_ty=types if len(types) > 1 else types[0],
        )
        results = self.builder.emit(called)
        for k, form in enumerate(forms):
            self._forms[result, form] = self.builder.emit(relax.TupleGetItem(results, k)) if len(forms) > 1 else results

    def _type(self, argument: Argument) -> Any:
        return relax.TensorType(argument.extents(self.images), argument.dtype)


def _answer(spec: Output, images: Expr, buffers: list[Buffer]) -> None:
    answer(spec, images, *buffers)
