"""What is timed, with what, and how often; the times themselves are whatever this machine takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import eqnet
from eqnet import Choices, Supernet
from eqnet.bench import timing
from eqnet.export.targets import load_target
from eqnet.search.latency import meter as module
from eqnet.search.latency.engine import Timed
from eqnet.search.latency.eqnet import OwnEngine
from eqnet.search.latency.meter import LatencyMeter


class Twice(nn.Module):
    """A convolution that is called twice, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.linear = nn.Linear(3 * 5 * 5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(torch.relu(self.conv(x)))
        return self.linear(x.flatten(1))


class Words(nn.Module):
    """No program on integers: it looks words up."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 32)
        self.linear = nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.embed(x).mean(1))


def supernet(model: nn.Module, text: str, example: torch.Tensor) -> Supernet:
    return eqnet.elasticize(model, Choices.parse(text), example)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of calls that were timed together, each time; without spending time on it."""
    seen: list[int] = []

    def quick(calls: list[timing.Call], seconds: float, block: float = 0.0) -> list[timing.Times]:
        seen.append(len(calls))
        return timing.in_turn(calls, min(seconds, 0.002))

    monkeypatch.setattr(module, "in_turn", quick)
    return seen


def test_every_kernel_is_timed_once_and_layers_that_are_called_twice_count_twice(
    counted: list[int], tmp_path: Path
) -> None:
    x = torch.randn(2, 3, 5, 5)
    made = supernet(Twice(), "w=2-8:tensor,channel:sym a=2-8:asym edge=none", x)
    before = made.fingerprint()
    first = LatencyMeter(made, x, tmp_path / "latency.json", 1)
    assert made.fingerprint() == before
    assert first.engine == OwnEngine(whole=True)
    assert counted == [1, 1, 1, 1, 1], "a kernel for each layer; three rounds of the only network there is"
    assert {len(times) for times in first.table.added.values()} == {1}
    second = LatencyMeter(made, x, tmp_path / "latency.json", 1)
    assert len(counted) == 5, "nothing is timed twice"
    assert second.table == first.table
    LatencyMeter(made, x, tmp_path / "latency.json", 2)
    assert len(counted) == 10, "another number of threads is another machine"


def test_wide_codes_and_groups_are_kernels_of_their_own(counted: list[int]) -> None:
    x = torch.randn(1, 3, 5, 5)
    made = supernet(Twice(), "w=2-8:channel,group16:sym,asym a=8:asym edge=none", x)
    table = LatencyMeter(made, x).table
    assert counted == [4, 4, *[2] * 3] or counted == [4, 4, *[1] * 3], "the latter if one network is both ends"
    for times in table.added.values():
        assert {str(fmt.weight) for fmt in times} == {"int8:channel", "uint8:channel", "int8:group16", "uint8:group16"}


@pytest.mark.parametrize("bits", ["w=2-8:channel:sym a=float", "w=2-8:channel:sym a=8:asym"])
def test_what_is_no_program_is_timed_layer_by_layer_in_every_width(counted: list[int], bits: str) -> None:
    x = torch.zeros(1, 6, dtype=torch.int64)
    made = supernet(Words(), f"{bits} edge=none", x)
    meter = LatencyMeter(made, x)
    assert meter.engine == OwnEngine(whole=False)
    assert counted[:2] == [7, 7]
    made.calibrate([x])
    subnet = made.space.subnet([0, 0])
    timed = meter.network(made, subnet)
    assert 0 < timed.low <= timed.median <= timed.high
    taken = len(counted)
    assert meter.network(made, subnet) == timed
    assert len(counted) == taken


class Valued(OwnEngine):
    """As if times depended on values."""

    values = True


@pytest.mark.parametrize("engine", [OwnEngine(True), Valued(True)], ids=["values play no part", "values count"])
def test_predictions_settle_on_networks_as_they_are_deployed(
    counted: list[int], engine: OwnEngine, tmp_path: Path
) -> None:
    x, path = torch.randn(1, 3, 5, 5), tmp_path / "latency.json"
    made = supernet(Twice(), "w=8:channel:sym a=8:asym edge=none", x)
    meter = LatencyMeter(made, x, path, timed=Timed("eqnet", lambda *_: engine, ("eqnet",)))
    taken, before = len(counted), meter.table
    made.calibrate([x])
    meter.settle(made)
    assert len(counted) == taken + 3 * engine.values
    known = json.loads(path.read_text())["nanoseconds"]
    networks = {key.endswith(", of random codes"): times[0] for key, times in known.items() if "Twice" in key}
    assert networks == {True: before.fastest, False: meter.table.fastest} if engine.values else {False: before.fastest}
    assert meter.network(made, made.space.subnet([0, 0])).median == meter.table.fastest
    assert len(counted) == taken + 3 * engine.values, "what is known is not timed again"
    again = LatencyMeter(made, x, path, timed=Timed("eqnet", lambda *_: engine, ("eqnet",)))
    assert again.table == before


def test_only_what_the_target_runs_is_timed(counted: list[int]) -> None:
    x = torch.randn(1, 3, 5, 5)
    made = supernet(Twice(), "w=8:channel,group16:sym,asym a=8:asym edge=none", x)
    table = LatencyMeter(made, x, target=load_target("onnxruntime")).table
    for times in table.added.values():
        assert {str(fmt.weight) for fmt in times} == {"int8:channel", "uint8:channel"}
    assert counted[:2] == [2, 2]


def test_a_slower_layer_takes_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """In wall-clock time, with a thousand times the work."""
    monkeypatch.setattr(module, "KERNEL_SECONDS", 0.01)
    monkeypatch.setattr(module, "NETWORK_SECONDS", 0.01)

    def fastest(size: int) -> int:
        x = torch.randn(1, 16, size, size)
        made = supernet(nn.Sequential(nn.Conv2d(16, 16, 3), nn.Conv2d(16, 16, 3)), "w=8:channel:sym a=8", x)
        return LatencyMeter(made, x, count=1).table.fastest

    assert fastest(96) > 10 * fastest(6)


def test_progress_is_told(counted: list[int]) -> None:
    told: list[tuple[str, int, int]] = []
    x = torch.randn(1, 3, 5, 5)
    report: Callable[[str, int, int], None] = lambda *stage: told.append(stage)  # noqa: E731
    LatencyMeter(supernet(Twice(), "w=8:channel:sym a=8", x), x, report=report)
    assert told[0] == ("Timing layers", 0, 2)
    assert ("Timing layers", 2, 2) in told
    assert told[-1] == ("Timing networks", 3, 3)
