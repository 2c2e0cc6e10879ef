"""``eqnet train``, ``eval`` and ``inspect``, and what all verbs share."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from eqnet.search.result import SearchResult
from eqnet.tasks import load_task
from tests.cli.command import TASKS, Command, Ended

PROCESSES = 1e-4
"""Weights after a few steps: two processes add up a batch's gradient in another order, which the optimizer's division
by the size of a gradient makes larger where that is small."""

BF16 = 0.2
"""Relative error of a loss from bf16 passes: a significand of 8 bits, and a loss far below one amplifies it."""


def _json(ended: Ended):
    assert ended.status == 0, ended.err
    return json.loads(ended.out)


def test_train_prints_the_last_step_and_does_nothing_the_second_time(
    eqnet: Command, small_task: str, tmp_path: Path
) -> None:
    command = ("train", "--task", small_task, "--out", tmp_path / "run", "--json")
    summary = _json(eqnet(*command))
    log = (tmp_path / "run" / "training.jsonl").read_text()
    assert summary["layers"] == 5
    assert summary["epochs"] == 1
    assert summary["last_step"] == json.loads(log.splitlines()[-1])
    assert summary["last_step"]["step"] == 4
    weights = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    assert _json(eqnet(*command)) == summary
    assert (tmp_path / "run" / "training.jsonl").read_text() == log
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == weights


def test_train_then_search_has_the_supernet_of_a_search_alone(
    eqnet: Command, small_task: str, finished_run: Path, tmp_path: Path
) -> None:
    assert eqnet("train", "--task", small_task, "--out", tmp_path / "run").status == 0
    for name in ("training.jsonl", "run.json"):
        assert (tmp_path / "run" / name).read_bytes() == (finished_run / name).read_bytes()
    one, other = (load_file(folder / "checkpoint.safetensors") for folder in (tmp_path / "run", finished_run))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_train_prints_a_table_of_losses(eqnet: Command, small_task: str, tmp_path: Path) -> None:
    table = eqnet("train", "--task", small_task, "--out", tmp_path / "run").out
    assert re.findall(r"loss, (\w+)", table) == ["wdr", "highest", "any", "lowest"]


def test_train_in_bf16(eqnet: Command, small_task: str, finished_run: Path, tmp_path: Path) -> None:
    ended = eqnet("train", "--task", small_task, "--out", tmp_path / "run", "--precision", "bf16")
    assert ended.status == 0, ended.err
    rough, exact = (
        json.loads((folder / "training.jsonl").read_text().splitlines()[0])
        for folder in (tmp_path / "run", finished_run)
    )
    assert rough["wdr"] == exact["wdr"], "the regularization is no forward pass"
    for name in ("highest", "any", "lowest"):
        assert rough[name] != exact[name]
        assert rough[name] == pytest.approx(exact[name], rel=BF16)
    ended = eqnet("eval", tmp_path / "run", "--uniform", "8")
    assert ended.status == 0, ended.err
    ended = eqnet("train", "--task", small_task, "--out", tmp_path / "run")
    assert "holds a run with precision 'bf16', not 'fp32'" in ended.err


def test_train_under_torchrun_gives_the_weights_of_one_process(eqnet: Command, tmp_path: Path) -> None:
    common = ["train", "--task", f"{TASKS}:without_norm", "--device", "cpu"]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d",
        "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1",
        "-m", "eqnet", *common, "--out", str(tmp_path / "two"), "--json",
    ]  # fmt: skip
    ended = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=100
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["last_step"]["step"] == 4, "the first process alone prints"
    assert eqnet(*common, "--out", tmp_path / "one").status == 0
    one, two = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name in one:
        assert torch.allclose(two[name].double(), one[name].double(), rtol=0, atol=PROCESSES), name
    start = load_task(f"{TASKS}:without_norm", cache=tmp_path, seed=0).model.state_dict()
    moved = max((one[f"supernet.model.{name}"] - value).abs().max().item() for name, value in start.items())
    assert moved > 10 * PROCESSES, "the training is long enough to tell"


def test_layer_that_is_never_called_is_named(eqnet: Command, tmp_path: Path) -> None:
    command = ("train", "--task", f"{TASKS}:never_called", "--out", tmp_path / "run", "--epochs", "0")
    reason = "it is never called on the example inputs"
    ended = eqnet(*command)
    assert ended.status == 0, ended.err
    assert f"left in floating point: spare ({reason})" in ended.out
    assert _json(eqnet(*command, "--json"))["left_alone"] == {"spare": reason}


TASK_FILE = """
import torch
from torch.utils.data import TensorDataset
from eqnet import Task

def made():
    data = [TensorDataset(torch.randn(8, 4), torch.arange(8) % 2) for _ in range(3)]
    torch.manual_seed({model})
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    data[0].tensors[0][0, 0] = {value}
    return Task("made", model, *data)
"""


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"model": 1}, "another model"), ({"value": 9}, "another data"), ({"space": "w=2-8:tensor:sym"}, "space")],
    ids=["model", "data", "space"],
)
def test_run_of_another_model_data_or_space_is_refused_until_fresh(
    eqnet: Command, tmp_path: Path, changed: dict[str, object], said: str
) -> None:
    def train(model: int = 0, value: int = 0, space: str = "default", *more: str) -> Ended:
        (tmp_path / "own.py").write_text(TASK_FILE.format(model=model, value=value))
        return eqnet(
            "train", "--task", f"{tmp_path}/own.py:made", "--out", tmp_path / "run", "--epochs", "0", "--space", space,
            *more,
        )  # fmt: skip

    assert train().status == 0
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert train().status == 0
    first = (tmp_path / "run" / "run.json").read_bytes()
    new = {"model": 0, "value": 0, "space": "default"} | changed
    ended = train(*new.values())
    assert ended.status == 2
    assert f"holds a run with {said}" in ended.err
    assert "--out" in ended.err
    assert "--fresh" in ended.err
    assert (tmp_path / "run" / "run.json").read_bytes() == first
    ended = train(*new.values(), "--fresh")
    assert ended.status == 0, ended.err
    assert (tmp_path / "run" / "run.json").read_bytes() != first
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_eval_measures_what_the_search_reported(eqnet: Command, copied_run: Path) -> None:
    accuracy = SearchResult.load(copied_run / "result.json").accuracy
    on_test = _json(eqnet("eval", copied_run, "--json"))
    assert on_test["data"] == "test"
    assert on_test["accuracy"] == accuracy.test
    on_validation = _json(eqnet("eval", copied_run, "--data", "validation", "--json"))
    assert on_validation["accuracy"] == accuracy.validation
    assert f"{100 * accuracy.test:.2f} %" in eqnet("eval", copied_run).out


def test_eval_of_a_uniform_network_is_that_of_its_subnet(eqnet: Command, copied_run: Path, tmp_path: Path) -> None:
    subnet = {
        name: {"weight": f"int{bits}:channel", "activation": f"uint{bits}:tensor"}
        for name, bits in (("0", 8), ("3", 4), ("6", 4), ("9", 4), ("11", 8))
    }
    (tmp_path / "subnet.json").write_text(json.dumps(subnet))
    uniform = _json(eqnet("eval", copied_run, "--uniform", "4", "--json"))
    assert uniform == _json(eqnet("eval", copied_run, "--subnet", tmp_path / "subnet.json", "--json"))
    assert uniform["divergence"] < _json(eqnet("eval", copied_run, "--uniform", "2", "--json"))["divergence"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--uniform", "9"), "2<=x<=8"),
        (("--uniform", "4", "--subnet", "other.json"), "give either --subnet or --uniform"),
        (("--subnet", "missing.json"), "missing.json"),
    ],
    ids=["9-bits", "both", "no-file"],
)
def test_eval_refuses_what_it_cannot_measure(
    eqnet: Command, copied_run: Path, options: tuple[str, ...], message: str
) -> None:
    ended = eqnet("eval", copied_run, *options)
    assert ended.status == 2
    assert message in ended.err


def test_eval_refuses_a_subnet_of_another_model(eqnet: Command, copied_run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"conv": {"weight": "int4:channel", "activation": null}}')
    ended = eqnet("eval", copied_run, "--subnet", other)
    assert ended.status == 2
    assert "other.json" in ended.err
    assert "conv" in ended.err


@pytest.mark.parametrize("verb", ["eval", "inspect"])
def test_folder_without_a_run_is_named(eqnet: Command, verb: str, tmp_path: Path) -> None:
    ended = eqnet(verb, tmp_path)
    assert ended.status == 2
    assert str(tmp_path) in ended.err


@pytest.mark.parametrize("verb", ["eval", "inspect"])
def test_a_file_is_no_run(eqnet: Command, verb: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    ended = eqnet(verb, tmp_path / "notes.txt")
    assert ended.status == 2
    assert str(tmp_path / "notes.txt") in ended.err
    assert ".onnx" in ended.err, "the files that it could be"


def test_a_seed_that_no_generator_takes_is_refused(eqnet: Command, small_task: str, tmp_path: Path) -> None:
    ended = eqnet("train", "--task", small_task, "--out", tmp_path / "run", "--seed", str(2**32))
    assert ended.status == 2
    assert "0<=x<=4294967295" in ended.err
    assert not (tmp_path / "run").exists()


def test_inspect_shows_every_layer(eqnet: Command, finished_run: Path) -> None:
    result = SearchResult.load(finished_run / "result.json")
    layers = _json(eqnet("inspect", finished_run, "--json"))
    assert [layer["name"] for layer in layers] == ["0", "3", "6", "9", "11"]
    assert [layer["weights"] for layer in layers] == [8 * 9, 8 * 8 * 9, 16 * 8 * 9, 144 * 16, 16 * 4]
    assert sum(layer["bytes"] for layer in layers) <= result.cost.bytes
    table = eqnet("inspect", finished_run).out
    for layer in result.layers:
        assert f"{layer.weight_format}" in table
        assert f"{layer.bytes:,}" in table


def test_inspect_of_a_damaged_result_is_refused_by_name(eqnet: Command, copied_run: Path) -> None:
    (copied_run / "result.json").write_text('{"schema": 1}')
    ended = eqnet("inspect", copied_run)
    assert ended.status == 2
    assert "result.json" in ended.err


def test_unknown_device_and_target_are_refused(eqnet: Command, small_task: str, tmp_path: Path) -> None:
    common = ("search", "--task", small_task, "--out", tmp_path / "run", "--budget", "4bit")
    ended = eqnet(*common, "--target", "onnxruntim")
    assert ended.status == 2
    assert "did you mean 'onnxruntime'" in ended.err
    absent = "mps" if not torch.backends.mps.is_available() else "cuda"
    ended = eqnet(*common, "--device", absent)
    assert ended.status == 2
    assert f"--device {absent}: this machine has none; choose among cpu" in ended.err


VERBS = [
    (),
    *(
        (verb,)
        for verb in ("train", "search", "eval", "inspect", "export", "import", "run", "compare", "bench", "targets")
    ),
]


@pytest.mark.parametrize("verb", VERBS, ids=str)
def test_help_needs_nothing(eqnet: Command, verb: tuple[str, ...]) -> None:
    ended = eqnet(*verb, "--help")
    assert ended.status == 0
    assert ended.out.startswith("Usage:")
