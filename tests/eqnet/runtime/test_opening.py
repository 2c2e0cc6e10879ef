"""One way to open artifacts of every form."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import eqnet
import eqnet.runtime
from eqnet import Choices
from eqnet.errors import InputError, RunError
from eqnet.tasks.networks import DigitsNet


def _saved(folder: Path, model: nn.Module, x: torch.Tensor, metadata: dict | None = None) -> Path:
    torch.manual_seed(0)
    supernet = eqnet.elasticize(model, Choices(), x)
    supernet.calibrate([x])
    eqnet.pack(supernet, supernet.space.subnet([0] * len(supernet.space.sets)), metadata=metadata).save(folder)
    return folder


def test_folder_runs_as_one_integer_program(tmp_path: Path) -> None:
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    told = {"input": {"shape": [1, 8, 8], "dtype": "float32"}}
    folder = _saved(tmp_path / "a", DigitsNet(), torch.randn(16, 1, 8, 8), told)
    runner = eqnet.runtime.open(folder)
    assert str(runner) == "one integer program"
    assert (runner.kind, runner.path) == ("eqnet", folder)
    assert [str(spec) for spec in runner.inputs] == ["x: float32 [N, 1, 8, 8]"]
    program = eqnet.runtime.compile(eqnet.load(folder), x)
    assert (runner(x) == program(x)).all()
    with pytest.raises(InputError, match=r"expected inputs of shape \[N, 1, 8, 8\]; found \[3, 8, 8\]"):
        runner(x[:, 0])


def test_folder_that_says_nothing_of_its_inputs_compiles_for_the_first_ones(tmp_path: Path) -> None:
    runner = eqnet.runtime.open(str(_saved(tmp_path / "a", DigitsNet(), torch.randn(16, 1, 8, 8))))
    assert runner.inputs == ()
    assert str(runner) == "what the first inputs compile to"
    assert runner(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert str(runner) == "one integer program"


def test_model_is_for_folders_alone(tmp_path: Path) -> None:
    own = nn.Sequential(nn.Linear(5, 3))
    folder = _saved(tmp_path / "a", own, torch.randn(16, 5))
    with pytest.raises(InputError, match="give model="):
        eqnet.runtime.open(folder)
    runner = eqnet.runtime.open(folder, model=own, threads=1)
    assert runner(torch.zeros(2, 5)).shape == (2, 3)
    with pytest.raises(InputError, match=r"x\.onnx: is an ONNX model, which holds its model; leave out model="):
        eqnet.runtime.open(tmp_path / "x.onnx", model=own)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no.onnx", "there is no such file"),
        ("no.so", "there is no such file"),
        ("nothing", "there is no such folder"),
    ],
)
def test_what_is_not_there_is_named(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(RunError, match=f"{name}: {words}"):
        eqnet.runtime.open(tmp_path / name)


def test_file_of_another_form_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"model\.pt: is no artifact.*eqnet export.*\*\.onnx.*\*\.so"):
        eqnet.runtime.open(tmp_path / "model.pt")


def test_threads_are_those_asked_for_while_it_runs(tmp_path: Path) -> None:
    seen = []

    class Counting(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(torch.get_num_threads())
            return super().forward(x)

    own = nn.Sequential(nn.Linear(5, 3), Counting(3, 3))
    runner = eqnet.runtime.open(_saved(tmp_path / "a", own, torch.randn(16, 5)), model=own, threads=2)
    seen.clear()
    runner(torch.zeros(2, 5))
    assert set(seen) == {2}
    assert torch.get_num_threads() == 1


def test_layers_in_the_order_in_which_they_run_and_what_is_given_instead(tmp_path: Path) -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second = nn.Linear(3, 2)
            self.first = nn.Linear(5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(torch.relu_(self.first(x)))

    own, x = Backwards(), torch.randn(16, 5, generator=torch.Generator().manual_seed(1))
    runner = eqnet.runtime.open(_saved(tmp_path / "a", own, x), model=own)
    assert isinstance(runner, eqnet.runtime.Runner)
    found = runner.layers(x)
    assert [*found] == ["first", "second"]
    assert (found["first"] < 0).any(), "as the layer returned it, not as ReLU left it"
    assert runner.layers(x, given=found)["second"].equal(found["second"])
    given = torch.rand(16, 3)
    packed = eqnet.load(tmp_path / "a", own).layers
    forced = runner.layers(x, given={"first": given, "elsewhere": given})
    assert forced["second"].equal(packed["second"](given))
    assert forced["first"].equal(found["first"])


def test_layer_that_is_called_twice_has_two_results(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.fc(x))

    own, x = Twice(), torch.randn(8, 4)
    runner = eqnet.runtime.open(_saved(tmp_path / "a", own, x), model=own)
    found = runner.layers(x)
    assert [*found] == ["fc", "fc#2"]
    assert runner.layers(x, given={"fc": torch.zeros(8, 4)})["fc#2"].equal(runner.layers(torch.zeros(8, 4))["fc"])
