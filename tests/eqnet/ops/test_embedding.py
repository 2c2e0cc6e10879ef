"""Rows of packed tables against the whole table, dequantized."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from eqnet.errors import InputError
from eqnet.formats import Format
from eqnet.ops import packed_embedding
from eqnet.ops.embedding import _embedding_reference
from eqnet.packed.tensor import PackedTensor
from tests.eqnet.ops.weights import FORMATS, SCALES, made

SHAPES = ((1, 1), (7, 31), (33, 100), (9, 640))


def parts(table: PackedTensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, list[int]]:
    size = min(table.format.group_size or table.cols, table.cols)
    return table.codes, table.scale, table.zero_point, [table.rows, table.cols, size, table.format.bits]


@pytest.mark.parametrize("op", [packed_embedding, _embedding_reference], ids=["C++", "torch"])
@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_rows_are_those_of_the_whole_table_bit_for_bit(fmt: Format, op) -> None:
    for index, (rows, cols) in enumerate(SHAPES):
        table = made(fmt, rows, cols, SCALES[(index + fmt.bits) % len(SCALES)])
        which = torch.tensor([[rows - 1, 0], [rows // 2, rows - 1]])
        assert torch.equal(op(which, *parts(table)), table.dequantize()[which]), (rows, cols)


def test_scales_of_every_size_are_read() -> None:
    # Subnormal and largest numbers of fp16, which float32 has as they are, and a negative one.
    scale = torch.tensor([[2**-24], [1023 * 2**-24], [2**-14], [65504.0], [-0.5], [0.0]]).half()
    table = PackedTensor(Format.parse("int8:channel"), 6, 1, torch.full((6,), 129, dtype=torch.uint8), scale, None)
    found = packed_embedding(torch.arange(6), *parts(table))
    assert found.flatten().tolist() == [2**-24, 1023 * 2**-24, 2**-14, 65504.0, -0.5, 0.0]


@pytest.mark.parametrize("shape", [(0,), (), (2, 0, 3), (4, 5)], ids=str)
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32], ids=["int64", "int32"])
def test_indices_of_any_shape(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> None:
    table = made(Format.parse("uint3:group16"), 9, 35)
    which = torch.randint(0, 9, shape, generator=generator, dtype=dtype)
    found = packed_embedding(which, *parts(table))
    assert torch.equal(found, table.dequantize()[which])
    assert torch.equal(packed_embedding(which.T if which.ndim == 2 else which, *parts(table)).sum(), found.sum())


def test_results_do_not_depend_on_the_number_of_threads(generator: torch.Generator) -> None:
    table = made(Format.parse("uint5:group32"), 300, 576)
    which = torch.randint(0, 300, (200,), generator=generator)
    for threads in (1, 3):
        torch.set_num_threads(threads)
        assert torch.equal(packed_embedding(which, *parts(table)), table.dequantize()[which])


def test_the_op_keeps_the_rules_of_torch_library() -> None:
    for fmt in ("int3:tensor", "uint5:group16"):
        arguments = torch.tensor([[3, 1], [0, 6]]), *parts(made(Format.parse(fmt), 7, 70))
        torch.library.opcheck(torch.ops.eqnet.packed_embedding.default, arguments)


TABLE = parts(made(Format.parse("uint4:group16"), 5, 40))
WHICH = torch.tensor([0, 4])


@pytest.mark.parametrize("index", [5, -1, 2**40], ids=str)
def test_an_index_of_no_row_is_refused(index: int) -> None:
    with pytest.raises(IndexError, match=rf"indices from .*{index}.* into a table of 5 rows"):
        packed_embedding(torch.tensor([1, index]), *TABLE)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c, s, z, n: packed_embedding(WHICH.float(), c, s, z, n), "expected indices in int64 or int32, got"),
        (lambda c, s, z, n: packed_embedding(WHICH, c[1:], s, z, n), r"expected codes in uint8 of shape \(100,\)"),
        (lambda c, s, z, n: packed_embedding(WHICH, c, s, z[1:], n), r"expected zero point in uint8 of shape \(8,\)"),
        (lambda c, s, z, n: packed_embedding(WHICH, c, s.double(), z, n), r"float64 of \(5, 3\) are no scales"),
        (lambda c, s, z, n: packed_embedding(WHICH, c, s[:, :2], z, n), r"\(5, 2\) are no scales of \[5, 40, 16, 4\]"),
        (lambda c, s, z, n: packed_embedding(WHICH, c, s[:2], None, n), "2 rows of scales for 5 rows"),
        (lambda c, s, z, n: packed_embedding(WHICH, c, s, z, [5, 40, 0, 4]), "are no rows, columns, group size"),
    ],
    ids=["indices", "codes", "zero point", "type of scales", "groups", "rows of scales", "group size"],
)
def test_what_does_not_fit_is_refused(call: Callable[..., torch.Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(*TABLE)
