"""Training: resumed exactly, alike on several processes, in bf16, and honest when it fails."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

import eqnet
from eqnet import Choices, EqnetError, Options, RunError, Supernet, Task
from eqnet.training import sandwich_step

SPACE = "w=2-8:channel:sym,asym a=2-8:asym"
PROCESSES = 1e-4
"""Weights after a few steps: sums over a batch are added in another order by two processes. Adam divides by the size
of a gradient, so that a difference in the last bit of a small one counts too."""

SCRIPT = Path(__file__).parent / "train_in_a_process.py"


def data(count: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 1, 6, 6, generator=generator)
    return TensorDataset(x, (x.mean((1, 2, 3)) > 0).long())


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """Adds noise from the global generators of torch, NumPy and random, as augmentations do."""

    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = data(32, 1)[index]
        return x + 0.1 * torch.randn_like(x) + float(np.random.normal()) + random.random(), y


def network(*, norm: bool = True) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4) if norm else nn.Identity(), nn.ReLU(),
            nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Dropout(0.1 if norm else 0.0), nn.Flatten(), nn.Linear(16, 2),
        )  # fmt: skip


def task(*, norm: bool = True, noisy: bool = False) -> Task:
    train: Dataset[tuple[Tensor, Tensor]] = Noisy() if noisy else data(32, 1)
    return Task("small", network(norm=norm), train, data(16, 2), data(16, 3), batch_size=8)


def supernet(of: Task) -> Supernet:
    made = eqnet.elasticize(of.model, Choices.parse(SPACE), of.example_inputs())
    made.calibrate([data(32, 1).tensors[0]])
    return made


def trained(of: Task, options: Options, folder: Path | None = None, stop_after: int | None = None) -> Supernet:
    made = supernet(of)
    for progress in eqnet.train(made, of, options, folder):
        if progress.step == stop_after:
            break
    return made


@pytest.mark.parametrize("noisy", [False, True], ids=["tensors", "augmented"])
def test_stopped_at_any_step_it_resumes_to_the_same_weights(tmp_path: Path, noisy: bool) -> None:
    options = Options(epochs=2, batch_size=8, checkpoint_every=0)
    whole = trained(task(noisy=noisy), options).fingerprint()
    for stop in (1, 4, 7):
        folder = tmp_path / str(stop)
        trained(task(noisy=noisy), options, folder, stop_after=stop)
        assert trained(task(noisy=noisy), options, folder).fingerprint() == whole
        steps = [json.loads(line)["step"] for line in (folder / "training.jsonl").read_text().splitlines()]
        assert steps == list(range(1, 9))


@pytest.mark.timeout(400)  # several processes, each of which loads torch
def test_killed_again_and_again_it_ends_with_the_same_weights(tmp_path: Path) -> None:
    def start(folder: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, str(SCRIPT), str(folder)], env=os.environ | {"OMP_NUM_THREADS": "1"})

    with start(tmp_path / "whole") as whole:
        assert whole.wait(100) == 0
    rng = random.Random(0)
    log = tmp_path / "killed" / "training.jsonl"
    for _ in range(2):
        before = log.stat().st_size if log.exists() else 0
        with start(tmp_path / "killed") as process:
            while process.poll() is None and not (log.exists() and log.stat().st_size > before):
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.1))  # it trains, and writes a checkpoint after each step
            process.kill()
            assert process.wait() == -signal.SIGKILL
    with start(tmp_path / "killed") as last:
        assert last.wait(100) == 0
    expected = load_file(tmp_path / "whole" / "checkpoint.safetensors")
    found = load_file(tmp_path / "killed" / "checkpoint.safetensors")
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.timeout(400)
def test_two_processes_train_like_one(tmp_path: Path) -> None:
    alone = [sys.executable, str(SCRIPT), str(tmp_path / "one"), "--without-norm"]
    together = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d",
        "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1",
        str(SCRIPT), str(tmp_path / "two"), "--without-norm",
    ]  # fmt: skip
    for command in (alone, together):
        ended = subprocess.run(
            command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=150
        )
        assert ended.returncode == 0, ended.stderr
    one, two = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("one", "two"))
    start = supernet(task(norm=False)).state_dict()
    moved = 0.0
    for name in one:
        if name.startswith("supernet.") and one[name].is_floating_point():
            assert torch.allclose(two[name], one[name], rtol=0, atol=PROCESSES), name
            moved = max(moved, (one[name] - start[name.removeprefix("supernet.")]).abs().max().item())
    assert moved > 10 * PROCESSES, "the training is long enough to tell"


def test_bf16_trains_to_a_lower_loss() -> None:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    of = task()
    made = supernet(of)
    losses = []
    for progress in eqnet.train(
        made,
        of,
        Options(epochs=10, batch_size=8, learning_rate=1e-2),
        None,
        Accelerator(cpu=True, mixed_precision="bf16"),
    ):
        losses.append(progress.losses["highest"])
    AcceleratorState._reset_state(True)
    assert np.mean(losses[-8:]) < np.mean(losses[:8])
    assert all(parameter.dtype == torch.float32 for parameter in made.parameters())


def test_a_loss_that_is_not_finite_stops_with_the_step_and_the_remedy() -> None:
    of = task()
    bad = data(32, 1)
    bad.tensors[0][:] = 1e38
    made = supernet(of)
    broken = Task(
        "broken",
        of.model,
        bad,
        of.validation,
        of.test,
        batch_size=8,
        loss=lambda y, t: (y - 1e39).exp().sum() * float("nan"),
    )
    with pytest.raises(EqnetError, match=r"step 0: the loss 'highest' is nan; lower the learning rate"):
        list(eqnet.train(made, broken, Options(epochs=1, batch_size=8)))
    assert made.active is None


def test_a_checkpoint_of_other_options_is_refused(tmp_path: Path) -> None:
    trained(task(), Options(epochs=1, batch_size=8), tmp_path)
    with pytest.raises(RunError, match="another model, space or options"):
        trained(task(), Options(epochs=1, batch_size=8, seed=1), tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty"])
def test_a_damaged_checkpoint_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    options = Options(epochs=1, batch_size=8)
    trained(task(), options, tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    content = path.read_bytes()
    path.write_bytes({"truncated": content[:-1], "foreign": b"PK" + content, "empty": b""}[damage])
    with pytest.raises(RunError, match=r"checkpoint\.safetensors"):
        trained(task(), options, tmp_path)


def test_the_callers_random_state_stays_as_it_was() -> None:
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[union-attr,index]
    trained(task(noisy=True), Options(epochs=1, batch_size=8))
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])  # type: ignore[index]
    assert states[2] == random.getstate()


def test_seeds_and_options_change_the_weights() -> None:
    base = Options(epochs=1, batch_size=8)
    variants = [base, Options(epochs=1, batch_size=8, seed=1), Options(epochs=1, batch_size=8, wdr=0),
                Options(epochs=1, batch_size=8, guidance=0)]  # fmt: skip
    assert len({trained(task(), options).fingerprint() for options in variants}) == len(variants)


def test_a_step_is_the_sum_of_its_losses() -> None:
    """Gradients accumulate over the regularization, the labels and the guides, each computed apart here."""
    of = task(norm=False)
    made = supernet(of).train()
    x, y = data(8, 5).tensors
    losses = sandwich_step(made, x, y, nn.functional.cross_entropy, np.random.default_rng(3))
    assert set(losses) == {"wdr", "highest", "any", "lowest"}
    found = {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}
    made.zero_grad()
    rng = np.random.default_rng(3)
    total, guide = eqnet.losses.weight_distribution([made.elastic["3"].weight, made.elastic["7"].weight]), None  # type: ignore[attr-defined]
    for bits in ("highest", "any", "lowest"):
        made.activate(made.space.draw(rng, bits))
        outputs = made(x)
        value = nn.functional.cross_entropy(outputs, y)
        if guide is not None:
            kl = nn.functional.kl_div(outputs.log_softmax(-1), guide.softmax(-1), reduction="batchmean")
            value = 0.5 * kl + 0.5 * value
        guide = outputs.detach()
        total = total + value
    total.backward()  # type: ignore[no-untyped-call]
    for name, parameter in made.named_parameters():
        assert (parameter.grad is None) == (name not in found)
        if parameter.grad is not None:
            assert torch.allclose(found[name], parameter.grad, rtol=1e-4, atol=1e-6), name
