"""What a subnet is worth, against PyTorch by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from eqnet import ModelError
from eqnet.search.measure import Judge
from tests.search.small import points, small_supernet, small_task


def test_divergence_loss_and_accuracy_are_means_over_all_samples() -> None:
    task = replace(small_task(), validation=points(300, 1))  # two batches, the second one short
    supernet = small_supernet(task)
    subnet = supernet.space.nearest(supernet.space.sets[0].choices[0])
    found = Judge(supernet, task, task.validation).measure(subnet)
    x, y = points(300, 1).tensors
    with torch.no_grad(), supernet.running(subnet):
        outputs = supernet(x)
    reference = task.model(x).detach()
    assert Judge(supernet, task, task.validation).accuracy(subnet) == pytest.approx(found.accuracy)
    assert found.accuracy == pytest.approx((outputs.argmax(1) == y).double().mean().item())
    assert found.loss == pytest.approx(F.cross_entropy(outputs, y).item(), rel=1e-5)
    expected = F.kl_div(outputs.log_softmax(1), reference.softmax(1), reduction="batchmean").item()
    assert found.divergence == pytest.approx(expected, rel=1e-4)


def test_floating_point_does_not_diverge_from_itself() -> None:
    task = small_task()
    judge = Judge(small_supernet(task), task, task.validation)
    assert judge.measure(None).divergence == pytest.approx(0, abs=1e-7)


def test_a_part_of_the_data_is_spread_over_all_of_it() -> None:
    """Of data that is sorted by class a part from the front would hold one class alone."""
    task = small_task()
    x, y = points(400, 3).tensors
    order = y.argsort()
    ordered = torch.utils.data.TensorDataset(x[order], y[order])
    supernet = small_supernet(task)
    part = Judge(supernet, task, ordered, 100).measure(None).accuracy
    whole = Judge(supernet, task, ordered).measure(None).accuracy
    assert part == pytest.approx(whole, abs=0.06)


def test_outputs_that_are_not_finite_are_refused() -> None:
    task = small_task()
    bad = points(64, 1)
    bad.tensors[0][5] = float("inf")
    supernet = small_supernet(task)
    with pytest.raises(ModelError, match="outputs hold inf or NaN"):
        Judge(supernet, task, bad).measure(supernet.space.nearest(supernet.space.sets[0].choices[-1]))


def test_another_model_is_judged_as_it_is_and_left_so() -> None:
    task = replace(small_task(), validation=points(300, 1))
    x, y = points(300, 1).tensors
    model = torch.nn.Sequential(task.model, torch.nn.Dropout(0.9)).train()
    found = Judge(small_supernet(task), task, task.validation).accuracy_of(model)
    assert found == pytest.approx((task.model(x).argmax(1) == y).double().mean().item())
    assert model.training
