"""Packed linear layers on kernels: types, ways to compute, and what is made for them and given up again."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import eqnet
from eqnet import Format, InputError, PackedModel
from eqnet.packed import mapping
from eqnet.packed.layers import InputRange, PackedLinear
from eqnet.packed.record import LayerRecord, Record, type_name
from tests.eqnet.ops.weights import made

ROWS, COLS = 40, 96
MANY = 400  # rows that fill some pages of memory

FLOAT = {torch.float32: 1e-6, torch.bfloat16: 2**-8, torch.float16: 2**-11, torch.float64: 1e-14}
"""Largest error over the largest output: float32 sums, or the rounding of what is returned."""

INT8 = 1e-2
"""Relative error of all outputs where inputs are rounded to int8 by group: 127 steps in the largest one of 32."""

INPUT = InputRange(Format.parse("uint8:tensor"), torch.tensor([0.03]), torch.tensor([100], dtype=torch.int16))


def layer(
    fmt: str = "uint4:group32", input_range: InputRange | None = None, seed: int = 0, rows: int = ROWS
) -> PackedLinear:
    bias = torch.randn(rows, generator=torch.Generator().manual_seed(seed))
    weight = made(Format.parse(fmt), rows, COLS, torch.float32, seed)
    return PackedLinear.convert(nn.Linear(COLS, rows), "it", weight, bias, input_range)


def exact(packed: PackedLinear, x: Tensor) -> Tensor:
    assert packed.bias is not None
    return F.linear(x.double(), packed.weight.dequantize().double(), packed.bias.double())


@pytest.fixture
def x(generator: torch.Generator) -> Tensor:
    return torch.randn(5, COLS, generator=generator)


def wrapped(packed: PackedLinear) -> PackedModel:
    fmt = packed.input_format
    record = LayerRecord("Linear", packed.weight_format, fmt, tuple(packed.shape), type_name(packed.dtype))
    return PackedModel(nn.Sequential(packed), Record({"0": record}))


def saved(folder: Path, packed: PackedLinear) -> PackedModel:
    wrapped(packed).save(folder)
    return eqnet.load(folder, lambda: nn.Sequential(nn.Linear(COLS, packed.rows)))


@pytest.mark.parametrize("dtype", FLOAT, ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_inputs_of_every_type_meet_the_exact_weight(dtype: torch.dtype, x: Tensor) -> None:
    packed, x = layer(), x.to(dtype)
    y = packed(x)
    assert y.dtype == dtype
    assert (y - exact(packed, x)).abs().max() <= FLOAT[dtype] * exact(packed, x).abs().max()


def test_int8_is_chosen_by_layer_by_model_and_by_load(tmp_path: Path, x: Tensor) -> None:
    packed = layer()
    before, right = packed(x), exact(packed, x)
    packed.compute = "int8"
    rounded = packed(x)
    assert not torch.equal(rounded, before)
    assert (rounded - right).norm() <= INT8 * right.norm()
    model = wrapped(layer())
    assert model.compute == "float"
    assert torch.equal(model(x), before)
    model.compute = "int8"
    assert torch.equal(model(x), rounded)
    model.save(tmp_path)
    for compute, expected in (("float", before), ("int8", rounded)):
        loaded = eqnet.load(tmp_path, lambda: nn.Sequential(nn.Linear(COLS, ROWS)), compute=compute)
        assert loaded.compute == compute
        assert torch.equal(loaded(x), expected)


def test_an_unknown_way_to_compute_is_refused(tmp_path: Path) -> None:
    model = wrapped(layer())
    with pytest.raises(InputError, match="compute='int3' is unknown; choose float or int8"):
        model.compute = "int3"
    model.save(tmp_path)
    with pytest.raises(InputError, match="compute='int3' is unknown"):
        eqnet.load(tmp_path, lambda: nn.Sequential(nn.Linear(COLS, ROWS)), compute="int3")


@pytest.mark.parametrize("range_", [None, INPUT], ids=["float input", "static input"])
def test_adapters_learn_through_it(range_: InputRange | None, x: Tensor) -> None:
    packed = layer(input_range=range_)
    adapter = nn.Linear(COLS, COLS, bias=False)
    with torch.no_grad():
        adapter.weight.copy_(torch.eye(COLS))
    packed(adapter(x)).sum().backward()
    codes = (x / 0.03).round() + 100
    inside = ((codes >= 0) & (codes <= 255)) if range_ else torch.ones_like(x)
    to_input = packed.weight.dequantize().sum(0) * inside  # of each output's sum
    torch.testing.assert_close(adapter.weight.grad, to_input.T @ x)


@pytest.mark.parametrize("range_", [None, INPUT], ids=["float input", "static input"])
def test_the_slow_way_computes_the_same(range_: InputRange | None, x: Tensor) -> None:
    packed = layer(input_range=range_)
    y, slow = packed(x), packed(x.double())  # there are no kernels for float64
    assert (y - slow).abs().max() <= 2 * FLOAT[torch.float32] * slow.abs().max()


def test_threads_that_come_first_at_once_make_one(x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = layer()
    calls = []
    real = PackedLinear._made
    monkeypatch.setattr(PackedLinear, "_made", lambda *given: calls.append(1) or real(*given))
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(packed, [x] * 32))
    assert len(calls) == 1
    assert all(torch.equal(y, results[0]) for y in results)


def test_what_was_prepared_is_no_part_of_its_state(x: Tensor) -> None:
    packed = layer()
    state = list(packed.state_dict())
    packed(x)
    assert list(packed.state_dict()) == state
    for other in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        assert other._prepared is None
        assert torch.equal(other(x), packed(x))


def test_another_state_is_another_weight(x: Tensor, tmp_path: Path) -> None:
    model, other = saved(tmp_path, layer(rows=MANY)), layer(seed=1, rows=MANY)
    model(x)
    model.model.load_state_dict({f"0.{name}": part for name, part in other.state_dict().items()})
    for _ in range(2):  # what is new is not given back to the file
        assert torch.equal(model(x), other(x))
        model.model[0]._prepared = None


def test_the_stored_weight_goes_back_to_its_file(tmp_path: Path, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    original = layer(rows=MANY)
    model = saved(tmp_path, original)
    released = []
    monkeypatch.setattr(
        "eqnet.packed.layers.linear.release", lambda part: released.append(part) or mapping.release(part)
    )
    y = model(x)
    packed = model.layers["0"]
    assert [id(part) for part in released] == [id(packed.codes), id(packed.scale), id(packed.zero_point)]
    assert torch.equal(packed.codes, original.codes)  # read again
    assert torch.equal(y, original(x))


def test_moving_it_gives_up_what_was_prepared(x: Tensor) -> None:
    packed = layer()
    packed(x)
    moved = packed.to("meta")
    assert moved._prepared is None
    assert moved(x.to("meta")).shape == (5, ROWS)


@pytest.mark.parametrize("range_", [None, INPUT], ids=["float input", "static input"])
def test_compile_and_export_see_the_op_of_a_prepared_layer(range_: InputRange | None, x: Tensor) -> None:
    model = wrapped(layer(input_range=range_)).prepare()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x), model(x))
    exported = torch.export.export(model, (x,))
    name = "packed_linear_static" if range_ else "packed_linear"
    assert f"eqnet.{name}.default" in {str(node.target) for node in exported.graph.nodes}
    assert torch.equal(exported.module()(x), model(x))


def test_compile_and_export_take_the_slow_way_for_one_that_is_not_prepared(x: Tensor) -> None:
    expected = layer()(x)
    bound = FLOAT[torch.float32] * expected.abs().max()
    fresh = layer()
    assert (torch.compile(fresh, fullgraph=True, backend="eager")(x) - expected).abs().max() <= 2 * bound
    assert (torch.export.export(fresh, (x,)).module()(x) - expected).abs().max() <= 2 * bound
    assert fresh._prepared is None


def test_functions_of_torch_take_its_weight_for_one_in_floating_point(x: Tensor) -> None:
    packed = layer()
    dense = packed.weight.dequantize()
    assert torch.equal(F.linear(x, packed.weight), F.linear(x, dense))
    assert torch.equal(x @ packed.weight.T, x @ dense.T)
    assert torch.equal(torch.cat([packed.weight, x]), torch.cat([dense, x]))
    assert packed.bfloat16().weight.T.dtype == torch.bfloat16
