"""Training: resumed exactly, in bf16, and honest when it fails."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

import eqnet
from eqnet import EqnetError, Options, RunError, Task
from eqnet.training import sandwich_step
from tests.eqnet.small_training import LONGER_STEPS, OPTIONS, STEPS, data, supernet, task, train_in_a_process, trained

FIRST_RATE = 5e-3
"""Share of the peak rate: a warmup starts a little above zero, so that the first step is not lost."""


def steps_in(folder: Path) -> list[int]:
    """The steps that the log tells of."""
    log = folder / "training.jsonl"
    return [json.loads(line)["step"] for line in log.read_text().splitlines()] if log.exists() else []


@pytest.mark.parametrize("noisy", [False, True], ids=["tensors", "augmented"])
def test_stopped_at_any_step_it_resumes_to_the_same_weights(tmp_path: Path, noisy: bool) -> None:
    whole = trained(task(noisy=noisy), OPTIONS).fingerprint()
    for stop in (1, 4, 7):
        folder = tmp_path / str(stop)
        trained(task(noisy=noisy), OPTIONS, folder, stop_after=stop)
        assert trained(task(noisy=noisy), OPTIONS, folder).fingerprint() == whole
        assert steps_in(folder) == list(range(1, STEPS + 1))


def test_steps_after_the_last_checkpoint_are_done_again_and_logged_once(tmp_path: Path) -> None:
    whole = trained(task(), OPTIONS).fingerprint()
    trained(task(), OPTIONS, tmp_path, stop_after=2)
    seldom = Options(epochs=2, batch_size=8, checkpoint_every=1e9)
    checkpoint = tmp_path / "checkpoint.safetensors"
    of_step_two = checkpoint.read_bytes()
    trained(task(), seldom, tmp_path, stop_after=6)
    checkpoint.write_bytes(of_step_two)  # as a power cut leaves it; stopped in an orderly way, it is that of step 6
    assert steps_in(tmp_path) == [1, 2, 3, 4, 5, 6]
    assert trained(task(), seldom, tmp_path).fingerprint() == whole
    assert steps_in(tmp_path) == list(range(1, STEPS + 1))


def test_interrupted_it_keeps_the_step_that_it_was_in(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a step lets it end, so that the same command goes on from there."""
    whole = trained(task(), OPTIONS).fingerprint()
    calls = 0

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1  # three subnets a step
        if calls == 11:
            os.kill(os.getpid(), signal.SIGINT)
        return nn.functional.cross_entropy(outputs, targets)

    seldom = replace(OPTIONS, checkpoint_every=1e9)
    with pytest.raises(KeyboardInterrupt):
        trained(replace(task(), loss=loss), seldom, tmp_path)
    assert steps_in(tmp_path) == [1, 2, 3, 4]
    made = supernet(task())
    assert next(iter(eqnet.train(made, task(), seldom, tmp_path))).step == 5
    assert trained(task(), seldom, tmp_path).fingerprint() == whole


def test_a_finished_training_does_no_step_and_gives_the_trained_weights(tmp_path: Path) -> None:
    whole = trained(task(), OPTIONS, tmp_path).fingerprint()
    again = supernet(task())
    assert list(eqnet.train(again, task(), OPTIONS, tmp_path)) == []
    assert again.fingerprint() == whole
    assert steps_in(tmp_path) == list(range(1, STEPS + 1))


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Processes that begin with everything imported: in milliseconds, not seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["eqnet", "torch._dynamo"])  # every optimizer of torch loads the latter
    return context


def train_until_done(processes: ForkServerContext, folder: Path) -> None:
    process = processes.Process(target=train_in_a_process, args=(folder, None))
    process.start()
    process.join(60)
    assert process.exitcode == 0


def assert_same_checkpoints(folder: Path, other: Path) -> None:
    """Bit for bit: weights, scales, zero points and the optimizer's state."""
    found, expected = (load_file(path / "checkpoint.safetensors") for path in (folder, other))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_killed_at_random_moments_it_ends_with_the_same_weights(processes: ForkServerContext, tmp_path: Path) -> None:
    train_until_done(processes, tmp_path / "whole")
    folder, rng = tmp_path / "killed", random.Random(0)
    stopped_at = []
    for _ in range(5):
        process = processes.Process(target=train_in_a_process, args=(folder, None))
        process.start()
        before, deadline = steps_in(folder), time.monotonic() + 30
        while process.is_alive() and steps_in(folder)[-1:] == before[-1:] and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.05))  # a step takes about as long
        process.kill()
        process.join(30)
        stopped_at.append(len(steps_in(folder)))
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert 0 < stopped_at[0] < LONGER_STEPS, "the first kill came while it trained"
    train_until_done(processes, folder)
    assert_same_checkpoints(folder, tmp_path / "whole")
    assert steps_in(folder) == list(range(1, LONGER_STEPS + 1))


def test_killed_while_checkpoints_are_written_it_ends_with_the_same_weights(
    processes: ForkServerContext, tmp_path: Path
) -> None:
    train_until_done(processes, tmp_path / "whole")
    folder = tmp_path / "killed"
    for checkpoint in (1, 1, 3):  # the third attempt writes those of steps 1 and 2, and dies over that of step 3
        process = processes.Process(target=train_in_a_process, args=(folder, checkpoint))
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        assert any(path.name.startswith(".checkpoint") for path in folder.iterdir()), "half of the work is there"
    assert steps_in(folder) == [1, 2, 3]
    train_until_done(processes, folder)
    assert_same_checkpoints(folder, tmp_path / "whole")
    assert steps_in(folder) == list(range(1, LONGER_STEPS + 1))


def test_bf16_trains_to_a_lower_loss() -> None:
    of = task()
    made = supernet(of)
    AcceleratorState._reset_state(True)
    bf16 = Accelerator(cpu=True, mixed_precision="bf16")
    options = Options(epochs=10, batch_size=8, learning_rate=1e-2)
    losses = [progress.losses["highest"] for progress in eqnet.train(made, of, options, None, bf16)]
    AcceleratorState._reset_state(True)
    assert np.mean(losses[-8:]) < np.mean(losses[:8])
    assert all(parameter.dtype == torch.float32 for parameter in made.parameters())
    assert losses[0] != next(iter(eqnet.train(supernet(of), of, options))).losses["highest"]


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=str)
def test_a_loss_that_is_not_finite_stops_with_the_step_and_the_remedy(tmp_path: Path, value: float) -> None:
    calls = 0

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1  # three subnets a step
        return nn.functional.cross_entropy(outputs, targets) * (value if calls == 8 else 1.0)

    of = task()
    broken = Task("broken", of.model, of.train, of.validation, of.test, batch_size=8, loss=loss)
    made = supernet(of)
    with pytest.raises(EqnetError, match=f"step 3: the loss 'any' is {value}; lower the learning rate"):
        list(eqnet.train(made, broken, OPTIONS, tmp_path))
    assert made.active is None
    saved = load_file(tmp_path / "checkpoint.safetensors")
    assert all(tensor.isfinite().all() for tensor in saved.values()), "the step that failed is not kept"
    assert steps_in(tmp_path) == [1, 2]


def test_the_callers_random_state_stays_as_it_was() -> None:
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[union-attr,index]
    trained(task(noisy=True), Options(epochs=1, batch_size=8))
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])  # type: ignore[index]
    assert states[2] == random.getstate()


def test_the_callers_random_state_does_not_matter() -> None:
    whole = trained(task(noisy=True), OPTIONS).fingerprint()
    with torch.random.fork_rng():
        torch.manual_seed(123)
        assert trained(task(noisy=True), OPTIONS).fingerprint() == whole


def test_seeds_and_options_change_the_weights() -> None:
    variants = [{}, {"seed": 1}, {"wdr": 0.0}, {"guidance": 0.0}, {"warmup": 0.0}, {"learning_rate": 1e-4},
                {"quantizer_rate": 1e-4}, {"clip": 1e-2}, {"sandwich": (("lowest", 1.0),)}]  # fmt: skip
    made = {trained(task(), Options(epochs=1, batch_size=8, **options)).fingerprint() for options in variants}
    assert len(made) == len(variants)


def test_gradients_are_clipped_to_their_norm() -> None:
    """A norm of 0 leaves the model's own parameters where they were, one that no gradient reaches changes nothing."""
    start = dict(supernet(task()).named_parameters())
    still = dict(trained(task(), Options(epochs=1, batch_size=8, clip=0.0)).named_parameters())
    moved = {name for name in start if not torch.equal(start[name], still[name])}
    assert moved
    assert all("quantizer" in name for name in moved)
    huge = [trained(task(), Options(epochs=1, batch_size=8, clip=clip)).fingerprint() for clip in (1e6, 1e9)]
    assert huge[0] == huge[1]


@pytest.mark.parametrize(
    ("warmup", "shares"),
    [
        (0.0, [1.0, 0.96194, 0.85355, 0.69134, 0.5, 0.30866, 0.14645, 0.03806]),
        (0.5, [0.0, 0.24049, 0.42678, 0.51850, 0.5, 0.30866, 0.14645, 0.03806]),
    ],
    ids=["cosine", "warmup"],
)
def test_the_rate_rises_linearly_and_falls_along_a_cosine(warmup: float, shares: list[float]) -> None:
    made, rates = supernet(task()), []

    def note(optimizer: torch.optim.Optimizer, _arguments: object, _options: object) -> None:
        for group in optimizer.param_groups:
            rates.extend(group["lr"] for parameter in group["params"] if parameter is made.elastic["3"].weight)

    with register_optimizer_step_pre_hook(note):
        list(eqnet.train(made, task(), replace(OPTIONS, learning_rate=0.01, warmup=warmup)))
    assert [rate / 0.01 for rate in rates] == pytest.approx(shares, abs=FIRST_RATE)
    assert rates[0] > 0


def test_a_step_is_the_weighted_sum_of_its_losses() -> None:
    """Gradients accumulate over the regularization, the labels and the guides, each computed apart here."""
    sandwich = (("highest", 1.0), ("any", 0.5), ("lowest", 0.25))
    of = task(norm=False)
    made = supernet(of).train()
    x, y = data(8, 5).tensors
    losses = sandwich_step(made, x, y, nn.functional.cross_entropy, np.random.default_rng(3), sandwich=sandwich)
    assert set(losses) == {"wdr", "highest", "any", "lowest"}
    found = {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}
    made.zero_grad()
    rng = np.random.default_rng(3)
    total, guide = eqnet.losses.weight_distribution([made.elastic["3"].weight, made.elastic["7"].weight]), None  # type: ignore[attr-defined]
    for bits, weight in sandwich:
        made.activate(made.space.draw(rng, bits))
        outputs = made(x)
        value = nn.functional.cross_entropy(outputs, y)
        if guide is not None:
            kl = nn.functional.kl_div(outputs.log_softmax(-1), guide.softmax(-1), reduction="batchmean")
            value = 0.5 * kl + 0.5 * value
        guide = outputs.detach()
        total = total + weight * value
    total.backward()  # type: ignore[no-untyped-call]
    for name, parameter in made.named_parameters():
        assert (parameter.grad is None) == (name not in found)
        if parameter.grad is not None:
            assert torch.allclose(found[name], parameter.grad, rtol=1e-4, atol=1e-6), name


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=f"{tmp_path}{os.sep}file"):
        trained(task(), OPTIONS, tmp_path / "file")
