"""What one forward pass shows of a model."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from eqnet import ModelError
from eqnet.tracing import evaluating, trace


class Net(nn.Module):
    """Two convolutions and a batch norm that run as the test says."""

    def __init__(self, run: Callable[[Net, Tensor], Tensor | tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.conv, self.other = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
        self.norm = nn.BatchNorm2d(2)
        self.run = run

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.run(self, x)


def both(net: Net, x: Tensor) -> tuple[Tensor, ...]:
    y = net.conv(x)
    return y, net.norm(y)


def shortcut(net: Net, x: Tensor) -> Tensor:
    y = net.conv(x)
    return y + net.other(torch.relu(net.norm(y)))


def view(net: Net, x: Tensor) -> Tensor:
    y = net.conv(x)
    y.view(-1).relu_()
    return net.norm(y)


def item(net: Net, x: Tensor) -> Tensor:
    y = net.conv(x)
    y[:, 0] = 1
    return net.norm(y)


def asked(net: Net, x: Tensor) -> Tensor:
    y = net.conv(x)
    return net.norm(y) * (y.shape[0] + y.size(1) + y.dim() + len(y))


@pytest.mark.parametrize(
    ("run", "folds"),
    [
        (lambda net, x: net.norm(net.conv(x)), True),
        (lambda net, x: torch.relu_(net.norm(net.conv(x))), True),
        (lambda net, x: net.norm(net.conv(net.norm(net.conv(x)))), True),
        (lambda net, x: net.norm(x), False),
        (lambda net, x: net.norm(net.conv(x).relu()), False),
        (lambda net, x: net.norm(net.conv(x).relu_()), False),
        (lambda net, x: net.norm(net.conv(x) + x), False),
        (lambda net, x: net.norm(net.conv(x)) + net.norm(net.other(x)), False),
        (lambda net, x: net.conv(net.norm(net.conv(x))), False),
        (view, False),
        (item, False),
        (asked, True),
        (shortcut, False),
        (both, False),
    ],
    ids=[
        "after a layer",
        "changed in place afterwards",
        "both called twice",
        "on the input",
        "after an activation",
        "after an activation in place",
        "after an addition",
        "after two layers",
        "layer called once without it",
        "changed in place through a view",
        "changed in place by index",
        "asked for its shape",
        "output also goes into a shortcut",
        "output is also returned",
    ],
)
def test_a_batch_norm_folds_only_into_a_layer_whose_output_it_alone_reads(
    run: Callable[[Net, Tensor], Tensor], folds: bool
) -> None:
    net = Net(run)
    assert trace(net, torch.rand(2, 2, 3, 3)).folded == ({net.norm: net.conv} if folds else {})


def test_a_batch_norm_without_running_statistics_never_folds() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False))
    assert not trace(net, torch.rand(4, 2)).folded


class NormAndActivation(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu()


@pytest.mark.parametrize(
    ("net", "x", "folds"),
    [
        (nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), torch.rand(4, 3), True),
        (nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), torch.rand(4, 3, 3), False),
        (nn.Sequential(nn.Conv1d(3, 3, 1), nn.BatchNorm1d(3)), torch.rand(4, 3, 3), True),
        (nn.Sequential(nn.Conv1d(3, 3, 1), nn.BatchNorm1d(3)), torch.rand(3, 3), False),
        (nn.Sequential(nn.ConvTranspose2d(3, 3, 1), nn.BatchNorm2d(3)), torch.rand(4, 3, 3, 3), True),
        (nn.Sequential(nn.ConvTranspose2d(3, 3, 1), nn.BatchNorm1d(3)), torch.rand(3, 3, 3), False),
        (nn.Sequential(nn.Embedding(3, 3), nn.BatchNorm1d(3)), torch.tensor([0, 1, 2]), False),
        (nn.Sequential(nn.Conv2d(3, 3, 1), NormAndActivation(3)), torch.rand(4, 3, 3, 3), False),
    ],
    ids=["linear", "linear on 3-D", "conv", "conv without a batch", "transposed", "transposed without a batch",
         "embedding", "a subclass"],
)  # fmt: skip
def test_a_batch_norm_folds_only_if_it_normalizes_what_the_rows_of_the_weight_give(
    net: nn.Sequential, x: Tensor, folds: bool
) -> None:
    assert trace(net, x).folded == ({net[1]: net[0]} if folds else {})


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Linear(6, 5), (3, 6), 6 * 5),
        (nn.Linear(6, 5), (3, 4, 6), 4 * 6 * 5),
        (nn.Conv1d(4, 6, 3, dilation=2, stride=2), (3, 4, 13), 6 * 5 * (4 * 3)),
        (nn.Conv2d(4, 6, (3, 1), groups=2, padding=1), (3, 4, 5, 5), 6 * (5 * 7) * (2 * 3)),
        (nn.Conv2d(5, 5, 3, groups=5), (3, 5, 6, 6), 5 * 16 * 9),
        (nn.Conv3d(2, 3, 2), (3, 2, 4, 4, 4), 3 * 27 * (2 * 8)),
        # Each input meets every weight of its group, whatever falls outside the output.
        (nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1), (3, 3, 4, 4), 3 * 16 * (4 * 9)),
        (nn.ConvTranspose1d(4, 6, 2, groups=2), (3, 4, 5), 4 * 5 * (3 * 2)),
        (nn.Embedding(7, 5), (3, 4), 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_work_and_inputs_are_counted_by_hand(layer: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    x = torch.zeros(shape, dtype=torch.long if isinstance(layer, nn.Embedding) else torch.float32)
    seen = trace(layer, x)
    assert seen.samples == 3
    assert (seen.calls[layer].macs, seen.calls[layer].inputs) == (3 * macs, x.numel())


def test_layers_are_numbered_as_they_first_run() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.unused = (nn.Linear(2, 2) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            return self.a(self.b(self.c(self.b(input=x))))

    net = Backwards()
    calls = trace(net, torch.zeros(1, 2)).calls
    assert {layer: seen.order for layer, seen in calls.items()} == {net.b: 0, net.c: 1, net.a: 2}
    assert calls[net.b].macs == 2 * 4


def test_the_model_is_watched_in_evaluation_mode_and_left_as_it_was() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(), nn.Linear(2, 2))
    net.train()
    net[2].eval()
    x = torch.ones(1, 2)
    state = torch.get_rng_state()
    trace(net, x)  # batch norm in training mode refuses a single sample
    assert [module.training for module in net.modules()] == [True, True, True, False, True]
    assert net[1].num_batches_tracked == 0
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks for module in net.modules())


def test_every_modules_own_mode_comes_back_after_an_error() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).train()
    net[1].eval()
    with pytest.raises(ZeroDivisionError), evaluating(net):
        raise ZeroDivisionError
    assert [module.training for module in net.modules()] == [True, True, False]


@pytest.mark.parametrize(
    "inputs", [torch.zeros(2, 3), (torch.zeros(2, 3),), {"input": torch.zeros(2, 3)}], ids=["tensor", "tuple", "names"]
)
def test_inputs_are_a_tensor_a_tuple_or_a_mapping(inputs: Tensor | tuple[Tensor] | dict[str, Tensor]) -> None:
    layer = nn.Linear(3, 1)
    seen = trace(layer, inputs)
    assert (seen.samples, seen.calls[layer].inputs) == (2, 6)


@pytest.mark.parametrize("inputs", [torch.zeros(0, 3), (), {}, torch.tensor(1.0)], ids=["no rows", "()", "{}", "0-D"])
def test_inputs_without_a_sample_are_refused(inputs: Tensor | tuple[Tensor] | dict[str, Tensor]) -> None:
    with pytest.raises(ModelError, match="no tensor with at least one sample"):
        trace(nn.Linear(3, 1), inputs)


def test_a_model_that_fails_keeps_no_hooks() -> None:
    net = nn.Sequential(nn.Linear(3, 1))
    with pytest.raises(ModelError, match="does not run on the example inputs: RuntimeError"):
        trace(net, torch.zeros(2, 4))
    assert not any(module._forward_hooks for module in net.modules())


def test_a_model_is_watched_in_inference_mode_too() -> None:
    net = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))
    with torch.inference_mode():
        assert trace(net, torch.zeros(1, 2, 2, 2)).folded == {net[1]: net[0]}
