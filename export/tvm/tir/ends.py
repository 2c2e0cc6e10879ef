"""The network's input and result, in the order of torch: [N, channels, height, width]."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.tirx.script.builder import ir as T

from eqnet.export.tvm.recording import Size
from eqnet.export.tvm.tir.emit import Argument, Buffer, Expr, bind, flat, least, load, loop, quotient, remainder, store
from eqnet.export.tvm.tir.finish import Finish, Writer
from eqnet.export.tvm.tir.layout import LANES, Image
from eqnet.export.tvm.tir.pixels import PARALLEL_FLOATS


@dataclass(frozen=True)
class Input:
    """Reads what the network is given.

    Attributes:
        finish: in which forms it is needed.
        shape: of one image.
    """

    finish: Finish
    shape: tuple[int, ...]

    @property
    def argument(self) -> Argument:
        """What it reads."""
        return Argument(0, "float32", by_image=True, shape=self.shape)


def read(spec: Input, images: Expr, x: Buffer, writer: Writer) -> None:
    """Writes the statements of the function."""
    image = spec.finish.image
    writer.fill_padding(images)
    x = flat(x, images * image.size.channels * image.size.pixels, "float32")
    with loop(images * image.size.height, parallel=image.size.pixels * image.stride >= PARALLEL_FLOATS) as row:
        i, y = bind(quotient(row, image.size.height)), bind(remainder(row, image.size.height))
        if image.stride >= LANES:
            _channels(image, i, y, x, writer)
        else:
            lanes = LANES if image.size.width >= LANES else 1
            with loop(-(-image.size.width // lanes)) as tile:
                _dense(spec, i, y, least(tile * lanes, image.size.width - lanes), lanes, x, writer)


def _channels(image: Image, i: Expr, y: Expr, x: Buffer, writer: Writer) -> None:
    """One row, a pixel at a time. What is beyond the channels is the last one again."""
    with loop(image.size.width) as column, loop(image.panels) as panel:
        channels = T.ramp(panel * LANES, 1, LANES)
        if image.size.channels % LANES:
            channels = T.min(channels, T.broadcast(image.size.channels - 1, LANES))
        at = T.broadcast((i * image.size.channels * image.size.height + y) * image.size.width + column, LANES)
        value = x[at + channels * T.broadcast(image.size.pixels, LANES)]
        writer.write(value, LANES, i, y, column, panel * LANES)


def _dense(spec: Input, i: Expr, y: Expr, column: Expr, lanes: int, x: Buffer, writer: Writer) -> None:
    """Some pixels of one row, of at most 4 channels, whose codes lie together."""
    image = spec.finish.image
    first = i * image.size.channels
    rows = [(first + c) * image.size.height + y for c in range(image.size.channels)]
    planes = [bind(load(x, lanes, row * image.size.width + column)) for row in rows]
    for form, (codes, buffer) in enumerate(zip(spec.finish.codes, writer.codes, strict=True)):
        place = codes.origin + y * codes.row + column * image.stride
        values = [writer.code(value, form, lanes) for value in planes]
        if image.stride == 1:
            store(buffer, values[0], lanes, i, place)
        else:
            store_together(buffer, values, lanes, i, place)


def store_together(buffer: Buffer, values: list[Expr], lanes: int, i: Expr, place: Expr) -> None:
    """Writes up to 4 codes of each of some pixels, 4 bytes a pixel."""
    kind = f"uint32x{lanes}" if lanes > 1 else "uint32"
    word = T.cast(values[0], kind)
    for c, value in enumerate(values[1:], 1):
        shift = T.uint32(8 * c)
        word = T.bitwise_or(word, T.shift_left(T.cast(value, kind), T.broadcast(shift, lanes) if lanes > 1 else shift))
    store(buffer, T.reinterpret(f"uint8x{4 * lanes}", word), 4 * lanes, i, place)


@dataclass(frozen=True)
class Output:
    """Writes what the network returns.

    Attributes:
        image: as it lies in memory.
        vector: whether it is returned as [N, features].
    """

    image: Image
    vector: bool

    @property
    def arguments(self) -> tuple[Argument, Argument]:
        """What it reads and writes."""
        size: Size = self.image.size
        shape = (size.channels,) if self.vector else tuple(size)
        return (
            Argument(self.image.floats, "float32", by_image=True),
            Argument(0, "float32", by_image=True, shape=shape),
        )


def answer(spec: Output, images: Expr, x: Buffer, y: Buffer) -> None:
    """Writes the statements of the function."""
    size, stride = spec.image.size, spec.image.stride
    with loop(images) as i, loop(size.channels) as c:
        if spec.vector:
            store(y, x[i, c], 1, i, c)
            return
        with loop(size.height) as row, loop(size.width) as column:
            store(y, x[i, (row * size.width + column) * stride + c], 1, i, c, row, column)
