"""Engines of files, with eqnet's own folders in the place of another engine's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import eqnet
from eqnet import Choices
from eqnet.packed.model import PackedModel
from eqnet.search.latency.exported import FileEngine
from eqnet.search.latency.kernels import packed_network
from eqnet.search.latency.onnxruntime import stand_in


@pytest.fixture
def written() -> list[tuple[Path, list[str], Sequence[Tensor]]]:
    """Path, layers and calibration inputs of each file."""
    return []


@pytest.fixture
def engine(written: list[tuple[Path, list[str], Sequence[Tensor]]]) -> FileEngine:
    def write(packed: PackedModel, path: Path, example: Tensor, calibration: Sequence[Tensor]) -> None:
        written.append((path, list(packed.layers), calibration))
        torch.save((packed(example), packed.nbytes), path)

    def open(path: Path, x: Tensor, threads: int) -> Callable[[], object]:
        result, nbytes = torch.load(path)
        return lambda: (result, nbytes, x, threads)

    return FileEngine("a file", ".pt", write, open, stand_in, threads=3)


def test_networks_and_layers_alone_are_written_opened_and_run(
    engine: FileEngine, written: list[tuple[Path, list[str], Sequence[Tensor]]]
) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))).eval()
    x = torch.randn(1, 3, 8, 8)
    made = eqnet.elasticize(model, Choices.parse("w=4:channel:sym a=8 edge=none"), x)
    packed = packed_network(made, made.space.subnet([0, 0]))
    result, nbytes, given, threads = engine.network(packed, x)()  # type: ignore[misc]
    torch.testing.assert_close(result, packed(x), rtol=0, atol=0)
    assert (nbytes, threads) == (packed.nbytes, 3)
    assert given is x
    linear, between = packed.layers["1.2"], torch.randn(1, 4 * 6 * 6)
    (call,) = engine.layers([linear], between)
    result, nbytes, given, _ = call()  # type: ignore[misc]
    torch.testing.assert_close(result, linear(between), rtol=0, atol=0)
    assert nbytes < packed.nbytes
    assert given is between
    assert [layers for _, layers, _ in written] == [["0", "1.2"], ["1.2"]]
    assert [[y is x for y in calibration] for _, _, calibration in written] == [[True], [False]]
    assert not any(path.exists() or path.parent.exists() for path, _, _ in written)
    assert str(engine) == "by itself in a file"
