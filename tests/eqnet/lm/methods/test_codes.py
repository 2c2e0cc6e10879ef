"""The kernel that makes codes against the same done slowly, on groups and rows of every awkward size."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from eqnet.errors import ModelError
from eqnet.formats import Format
from eqnet.lm.methods.codes import Codes, codes_of
from eqnet.lm.rounded import stored_scale
from tests.eqnet.lm.methods.reference import full_range, loss, random_weight, rounded, searched_range

KINDS = [(bits, sign) for bits in range(2, 9) for sign in ("", "u")]
SCALES = (torch.float16, torch.bfloat16, torch.float32)

INDISTINCT = 1e-5
"""Of ``Σ h x²``: losses that sums in float32, and scales that are rounded to float16, do not tell apart."""

SAME, ULPS = 0.9, 1e-6
"""Share of groups that have the range of float64, and how near it; others had candidates that are as good."""


def _kinds(size: str) -> list[Format]:
    return [Format.parse(f"{sign}int{bits}:{size}") for bits, sign in KINDS]


def _groups(fmt: Format, cols: int) -> list[slice]:
    size = fmt.group_size or cols
    return [slice(start, min(start + size, cols)) for start in range(0, cols, size)]


def _importance(cols: int) -> Tensor:
    return torch.rand(cols, generator=torch.Generator().manual_seed(2)) ** 3


def _factor(cols: int) -> Tensor:
    """Lower triangular, as that of an inverse Hessian: what is above the diagonal is never to be read."""
    generator = torch.Generator().manual_seed(3)
    lower = torch.randn(cols, cols, generator=generator).tril() / (2 * cols**0.5)
    lower.diagonal().copy_(0.5 + torch.rand(cols, generator=generator))
    return lower + torch.full((cols, cols), float("nan")).triu(1)


def _by_column(part: Tensor, fmt: Format, cols: int) -> np.ndarray:
    return part.float().repeat_interleave(fmt.group_size or cols, 1)[:, :cols].numpy()


def _equal(a: Codes, b: Codes) -> bool:
    return all(torch.equal(getattr(a, part), getattr(b, part)) for part in ("stored", "scale", "zero_point", "error"))


@pytest.mark.parametrize("size", ["group8", "group16", "group33", "channel"])
@pytest.mark.parametrize("weighted", [False, True])
def test_ranges_are_those_of_the_plain_search(size: str, weighted: bool) -> None:
    weight, importance = random_weight(3, 150), _importance(150) if weighted else None  # the last group is short
    same = []
    for fmt, dtype in itertools.product(_kinds(size), (torch.float16, torch.float32)):
        found = codes_of(weight, fmt, dtype, searched=True, importance=importance)
        for row, (group, part) in itertools.product(range(3), enumerate(_groups(fmt, 150))):
            x = weight[row, part].double().numpy()
            h = np.ones(len(x)) if importance is None else importance[part].double().numpy()
            scale, zero = float(found.scale[row, group]), float(found.zero_point[row, group])
            expected = searched_range(x, h, fmt, dtype)
            assert loss(x, h, scale, zero, fmt) <= loss(x, h, *expected, fmt) + INDISTINCT * float(h @ x**2)
            same.append((scale, zero) == pytest.approx(expected, rel=ULPS))
    assert np.mean(same) >= SAME


@pytest.mark.parametrize("fmt", [fmt for size in ("group16", "channel") for fmt in _kinds(size)], ids=str)
def test_full_ranges_are_exact(fmt: Format) -> None:
    weight = random_weight(2, 40)
    found = codes_of(weight, fmt, torch.bfloat16, searched=False)
    for row, (group, part) in itertools.product(range(2), enumerate(_groups(fmt, 40))):
        expected = full_range(weight[row, part].numpy(), fmt, torch.bfloat16)
        assert (float(found.scale[row, group]), float(found.zero_point[row, group])) == expected


@pytest.mark.parametrize("dtype", SCALES)
def test_scales_are_rounded_as_torch_does(dtype: torch.dtype) -> None:
    exponents = torch.arange(-30.0, 14.0).repeat_interleave(16)
    weight = (1 + torch.rand(len(exponents), 1, generator=torch.Generator().manual_seed(0))) * exponents.exp2()[:, None]
    ties = (torch.arange(8).float()[:, None] * 2 + 1 + 2**11) * 2.0**-24  # halfway between values of float16
    for x in (weight, ties):
        scale = codes_of(x * 7, Format.parse("int4:channel"), dtype, searched=False).scale
        assert torch.equal(scale.float(), stored_scale(x * 7 / 7, dtype))


@pytest.mark.parametrize("searched", [False, True])
@pytest.mark.parametrize("compensated", [False, True])
@pytest.mark.parametrize("rows", [1, 15, 16, 17, 130])
def test_rows_and_threads_do_not_matter(rows: int, compensated: bool, searched: bool, threads: None) -> None:
    weight, fmt = random_weight(rows, 70), Format.parse("uint3:group32")
    factor = _factor(70) if compensated else None
    together = codes_of(weight, fmt, torch.float16, searched=searched, factor=factor)
    torch.set_num_threads(1)
    for row in range(rows):
        alone = codes_of(weight[row : row + 1], fmt, torch.float16, searched=searched, factor=factor)
        for part in ("stored", "scale", "zero_point", "error"):
            assert torch.equal(getattr(alone, part)[0], getattr(together, part)[row]), (part, row)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("size", ["group16", "group48", "group200", "channel"])
@pytest.mark.parametrize(("cols", "ordered"), [(1, False), (9, False), (150, True), (300, False), (300, True)])
def test_errors_are_made_good_bit_for_bit(size: str, cols: int, ordered: bool) -> None:
    weight, factor, importance = random_weight(2, cols), _factor(cols), _importance(cols)
    order = torch.randperm(cols, generator=torch.Generator().manual_seed(4)) if ordered else None
    for fmt in (Format.parse(f"uint3:{size}"), Format.parse(f"int6:{size}")):
        found = codes_of(weight, fmt, torch.float16, searched=True, importance=importance, factor=factor, order=order)
        scale, zero = _by_column(found.scale, fmt, cols), _by_column(found.zero_point, fmt, cols)
        columns = list(range(cols)) if order is None else order.tolist()
        for row in range(len(weight)):
            met = np.empty(cols, np.float32)  # by the search for the range of each group
            for column, code, x in rounded(weight[row].numpy(), scale[row], zero[row], fmt, factor.numpy(), columns):
                assert int(found.stored[row, column]) + fmt.qmin == code, (row, column)
                value = np.float32((np.float32(code) - zero[row, column]) * scale[row, column])
                assert found.error[row, column] == value - weight[row, column].numpy()
                if column % (fmt.group_size or cols) == 0:
                    met[column:] = x[column:]
            # A range is that of the group as it was when its turn came; with an order, before all turns.
            source = weight[row : row + 1] if ordered else torch.from_numpy(met[None])
            ranges = codes_of(source, fmt, torch.float16, searched=True, importance=importance)
            assert torch.equal(ranges.scale[0], found.scale[row])
            assert torch.equal(ranges.zero_point[0], found.zero_point[row])


@pytest.mark.parametrize("fmt", _kinds("group32"), ids=str)
def test_errors_are_those_of_what_is_stored(fmt: Format) -> None:
    weight = random_weight(5, 80)
    found = codes_of(weight, fmt, torch.bfloat16, searched=True)
    assert torch.equal(found.error, found.packed().dequantize() - weight)


@pytest.mark.parametrize("fmt", [fmt for size in ("group16", "channel") for fmt in _kinds(size)], ids=str)
def test_zeros_and_single_values(fmt: Format) -> None:
    weight = torch.zeros(4, 33)
    weight[1], weight[2], weight[3, 32] = 0.5, -0.5, 1.0  # the last group of 16 has one weight
    found = codes_of(weight, fmt, torch.float32, searched=True, importance=torch.zeros(33))
    assert torch.equal(found.scale[0], torch.ones_like(found.scale[0]))
    assert torch.equal(found.error[0], weight[0])
    torch.testing.assert_close(found.error[1:], torch.zeros(3, 33), rtol=0, atol=1e-7)


def test_a_scale_that_does_not_fit_is_named_with_its_weight() -> None:
    weight = torch.ones(20, 64)
    weight[18, 40] = -7e5
    with pytest.raises(
        ModelError, match=r"its weight reaches 7e\+05, which takes a scale of 1e\+05: too large for flo"
    ):
        codes_of(weight, Format.parse("int4:group16"), torch.float16, searched=True)
    fits = codes_of(weight, Format.parse("int4:group16"), torch.bfloat16, searched=True)
    assert float(fits.error[18, 40].abs()) < 7e5 / 100
    enormous = torch.tensor([[3e38, -3e38]])  # whose range is no number
    with pytest.raises(ModelError, match="which takes a scale of inf: too large for float32"):
        codes_of(enormous, Format.parse("uint4:channel"), torch.float32, searched=True)


def test_weights_and_factors_may_be_views() -> None:
    weight, fmt, importance = random_weight(48, 20).T, Format.parse("uint4:group16"), _importance(96)[::2]
    upper = _factor(48).T.contiguous()
    found = codes_of(weight, fmt, torch.float16, searched=True, importance=importance, factor=upper.T)
    expected = codes_of(
        weight.contiguous(), fmt, torch.float16, searched=True, importance=importance.clone(), factor=_factor(48)
    )
    assert _equal(found, expected)
