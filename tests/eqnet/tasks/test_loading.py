"""What users write for a task is found, called and checked; every mistake has its own message."""

from __future__ import annotations

import dataclasses
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from eqnet.errors import EqnetError, InputError, RunError
from eqnet.tasks import BUILT_IN, Task, load_task, top1, validate

HEADER = """\
import torch
from torch import nn
from torch.utils.data import TensorDataset
from eqnet.tasks import Task

def make(name="mine", **fields):
    data = TensorDataset(torch.randn(4, 3), torch.tensor([0, 1, 0, 1]))
    fields = {"model": nn.Linear(3, 2), "train": data, "validation": data, "test": data} | fields
    return Task(name=name, **fields)

"""
FIRST_LINE = HEADER.count("\n") + 1  # of what a test adds
MAKING_LINE = 1 + HEADER.splitlines().index("    return Task(name=name, **fields)")


def some_task(**fields: Any) -> Task:
    data = TensorDataset(torch.zeros(4, 3), torch.tensor([0, 1, 0, 1]))
    return Task(**{"name": "mine", "model": nn.Linear(3, 2), "train": data, "validation": data, "test": data, **fields})


class Rows(Dataset[Any]):
    """A data set of the given items."""

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([(torch.zeros(3), 0)])


Load = Callable[..., Task]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Writes code after ``HEADER`` to mine.py in the current folder and loads a task from it."""
    monkeypatch.chdir(tmp_path)

    def load(code: str, spec: str = "./mine.py:task", seed: int = 0) -> Task:
        Path("mine.py").write_text(HEADER + code, encoding="utf-8")
        return load_task(spec, cache=tmp_path / "cache", seed=seed)

    yield load
    for name in ("mine", "eqnet_task_mine"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("spec", ["./mine.py:task", "mine.py:task", "mine:task"])
def test_a_factory_without_arguments_is_found_in_a_file_and_in_a_module(load: Load, spec: str) -> None:
    assert load("def task(): return make()", spec).name == "mine"


def test_an_absolute_path_works_from_another_folder(load: Load, tmp_path: Path, monkeypatch: Any) -> None:
    load("def task(): return make()")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_task(f"{tmp_path / 'mine.py'}:task", cache=tmp_path, seed=0).name == "mine"


def test_a_task_itself_can_be_named(load: Load) -> None:
    assert load("task = make('ready')").name == "ready"


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ("cache", "cache--"),
        ("seed", "-7-"),
        ("seed, cache", "cache-7-"),
        ("*, seed, extra=1", "-7-1"),
        ("**others", "--"),
    ],
)
def test_a_factory_gets_the_arguments_that_it_has_parameters_for(load: Load, parameters: str, name: str) -> None:
    body = "given = locals(); return make('x' + '-'.join(str(getattr(given.get(k), 'name', given.get(k, ''))) "
    task = load(f"def task({parameters}):\n    {body} for k in ('cache', 'seed', 'extra')))", seed=7)
    assert task.name == "x" + name


def test_neighbours_of_the_file_can_be_imported_while_it_runs_and_not_afterwards(load: Load, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "neighbour_of_mine.py").write_text("NAME = 'next-door'")
    (folder / "main.py").write_text(
        HEADER + "def task():\n    from neighbour_of_mine import NAME\n    return make(NAME)"
    )
    before = list(sys.path)
    assert load_task("project/main.py:task", cache=tmp_path, seed=0).name == "next-door"
    assert sys.path == before


def test_a_changed_file_is_read_again(load: Load) -> None:
    assert load("task = make('old')").name == "old"
    assert load("task = make('new')").name == "new"


def test_data_classes_can_be_defined_in_the_file(load: Load) -> None:
    code = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    x: int = 0\n"
    )
    Path("plain.py").write_text(code + HEADER + "def task(): return make(f'a{A().x}')")
    assert load_task("./plain.py:task", cache=Path(), seed=0).name == "a0"


def test_what_a_factory_draws_follows_the_seed_and_leaves_no_trace(load: Load) -> None:
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    code = "def task(): return make()"
    first, again, other = load(code, seed=1), load(code, seed=1), load(code, seed=2)
    assert torch.equal(first.train[0][0], again.train[0][0])
    assert not torch.equal(first.train[0][0], other.train[0][0])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), before[1], strict=True))
    assert random.getstate() == before[2]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "digit",
            "unknown task 'digit' (did you mean digits?); built in are digits, fashion-mnist, "
            "fashion-mnist-mobilenet; your own is given as package.module:NAME or ./file.py:NAME",
        ),
        (
            "imagenet",
            "unknown task 'imagenet'; built in are digits, fashion-mnist, fashion-mnist-mobilenet; "
            "your own is given as package.module:NAME or ./file.py:NAME",
        ),
        ("Fashion_MNIST", "unknown task 'Fashion_MNIST' (did you mean fashion-mnist?)"),
        ("", "unknown task ''"),
        (":", "unknown task ':'"),
        (":task", "unknown task ':task'"),
        ("mine:", "unknown task 'mine:'"),
        ("./mine.py", "task './mine.py' lacks the name of a function in that file; give ./mine.py:NAME"),
        ("./absent.py:task", "task './absent.py:task': there is no file {cwd}/absent.py; check the path"),
        ("./:task", "task './:task': there is no file {cwd}; check the path"),
        ("./notes.txt:task", "task './notes.txt:task': {cwd}/notes.txt is not a Python file; its name must end in .py"),
        (
            "absent.module:task",
            "task 'absent.module:task': there is no module absent, neither in {cwd} nor installed; "
            "check the name, or give a file as ./file.py:NAME",
        ),
        ("json.absent:task", "task 'json.absent:task': there is no module json.absent"),
        ("./mine.py:absent", "task './mine.py:absent': its module has no absent; it has make, nothing"),
        ("./mine.py:number", "task './mine.py:number': number is an int; name a Task or a function that returns one"),
        (
            "./mine.py:nothing",
            "task './mine.py:nothing': nothing() returned None, not an eqnet.tasks.Task; return T",
        ),
        ("collections:OrderedDict", "task 'collections:OrderedDict': OrderedDict() returned an OrderedDict, not"),
        ("sysconfig_of_nothing:x", "there is no module sysconfig_of_nothing"),
    ],
)
def test_a_task_that_is_not_there_is_refused(load: Load, tmp_path: Path, spec: str, message: str) -> None:
    Path("notes.txt").write_text("task = 1")
    with pytest.raises(InputError, match=re.escape(message.replace("{cwd}", str(tmp_path)))):
        load("number = 3\ndef nothing(): pass", spec)


def test_a_module_without_functions_says_so(load: Load) -> None:
    Path("bare.py").write_text("x = 1")
    with pytest.raises(InputError, match=r"task './bare.py:task': its module has no task; it defines none$"):
        load_task("./bare.py:task", cache=Path(), seed=0)


@pytest.mark.parametrize(
    ("code", "cause", "message"),
    [
        ("1 / 0", ZeroDivisionError, "importing it raised ZeroDivisionError: division by zero ({file}, line {line})"),
        ("raise KeyError", KeyError, "importing it raised KeyError ({file}, line {line}); correct it there"),
        ("\ndef f(:\n", SyntaxError, "importing it raised SyntaxError: invalid syntax ({file}, line {next})"),
        ("import absent_library", ModuleNotFoundError, "No module named 'absent_library' ({file}, line {line})"),
        ("import sys; sys.exit(3)", SystemExit, "importing it raised SystemExit: 3 ({file}, line {line})"),
        ("def task():\n    return make(modle=1)", TypeError, "task() raised TypeError: {any} ({file}, line {making})"),
        (
            "def task():\n    return torch.zeros(2) @ torch.zeros(3)",
            RuntimeError,
            "task() raised RuntimeError: {any} ({file}, line {next}); correct it there",
        ),
        (
            "class Bad(torch.utils.data.Dataset):\n    def __getitem__(self, i): return self.absent\n"
            "    def __len__(self): return 1\ndef task(): return make(validation=Bad())",
            AttributeError,
            "task 'mine': reading validation[0] raised AttributeError: {any} ({file}, line {next}); correct it there",
        ),
    ],
)
def test_code_that_raises_is_shown_with_its_line(
    load: Load, tmp_path: Path, code: str, cause: type[BaseException], message: str
) -> None:
    message = message.format(
        file=tmp_path / "mine.py", line=FIRST_LINE, next=FIRST_LINE + 1, making=MAKING_LINE, any="{any}"
    )
    with pytest.raises(InputError, match=re.escape(message).replace(r"\{any\}", ".*")) as caught:
        load(code)
    assert isinstance(caught.value.__cause__, cause)


def test_a_module_that_raises_is_shown_with_its_line(load: Load, tmp_path: Path) -> None:
    message = f"task 'mine:task': importing mine raised OSError: full ({tmp_path / 'mine.py'}, line {FIRST_LINE})"
    with pytest.raises(InputError, match=re.escape(message)):
        load("raise OSError('full')", "mine:task")


def test_a_file_that_fails_leaves_no_module_behind(load: Load) -> None:
    with pytest.raises(InputError):
        load("1 / 0")
    assert "eqnet_task_mine" not in sys.modules


def test_errors_of_eqnet_itself_pass_as_they_are(load: Load) -> None:
    with pytest.raises(RunError, match=r"^busy$"):
        load("from eqnet.errors import RunError\ndef task(): raise RunError('busy')")


@pytest.mark.parametrize("parameters", ["path", "cache, /", "seed, *, path"])
def test_a_factory_with_other_arguments_is_refused_by_name(load: Load, parameters: str) -> None:
    wrong = "path" if "path" in parameters else "cache"
    message = f"task needs the argument {wrong}, but eqnet passes only cache and seed; give it a default"
    with pytest.raises(InputError, match=message):
        load(f"def task({parameters}): pass")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, "task '': its name must be letters, digits, '_', '-', '+' or '.', for it names a folder"),
        ({"name": "../up"}, "task '../up': its name must be letters"),
        ({"name": 3}, "task 3: its name must be letters"),
        (
            {"model": nn.Linear},
            "task 'mine': model is the class Linear, not an nn.Module; give the trained model",
        ),
        ({"model": {"weight": 1}}, "task 'mine': model is a dict, not an nn.Module"),
        ({"train": None}, "task 'mine': train is None; give a map-style dataset, with len() and []"),
        ({"test": Stream()}, "task 'mine': test is a Stream; give a map-style dataset, with len() and []"),
        ({"train": Rows()}, "task 'mine': train is empty; give at least one sample"),
        ({"validation": Rows()}, "task 'mine': validation is empty"),
        ({"test": Rows()}, "task 'mine': test is empty"),
        ({"calibration": Rows()}, "task 'mine': calibration is empty"),
        (
            {"train": Rows(torch.zeros(3))},
            "task 'mine': train[0] is a Tensor, not an (input, target) pair; return two values from [] of it",
        ),
        ({"test": Rows((1, 2, 3))}, "task 'mine': test[0] is a tuple of 3, not an (input, target) pair"),
        ({"test": Rows({"x": 1, "y": 2})}, "task 'mine': test[0] is a dict, not an (input, target) pair"),
        ({"train": Rows(("a", 1))}, "task 'mine': the input of train[0] is a str, not a tensor ("),
        ({"loss": "mse"}, "task 'mine': loss is a str; give a function of (outputs, targets)"),
        ({"metric": None}, "task 'mine': metric is None; give a function of (outputs, targets)"),
        ({"batch_size": 0}, "task 'mine': batch_size is 0; give a whole number of at least 1"),
        ({"epochs": 1.5}, "task 'mine': epochs is 1.5; give a whole number of at least 0"),
        ({"workers": -1}, "task 'mine': workers is -1; give a whole number of at least 0"),
        ({"learning_rate": 0}, "task 'mine': learning_rate is 0; give a positive number"),
        ({"learning_rate": float("nan")}, "task 'mine': learning_rate is nan; give a positive number"),
    ],
)
def test_a_task_with_a_wrong_field_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        validate(some_task(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"train": Rows([np.zeros(3, np.float32), 1])},
        {"calibration": Rows((torch.zeros(3), None))},
        {"epochs": 0, "workers": 2, "learning_rate": 1},
        {"name": "resnet-18_v1.5"},
    ],
)
def test_a_task_in_order_passes(fields: dict[str, Any]) -> None:
    validate(some_task(**fields))


def test_a_loaded_task_is_validated(load: Load) -> None:
    with pytest.raises(InputError, match="batch_size is 0"):
        load("def task(): return make(batch_size=0)")


def test_tasks_are_frozen_and_score_samples_by_their_largest_output() -> None:
    task = some_task()
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.name = "other"  # type: ignore[misc]
    outputs = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    assert top1(outputs, torch.tensor([1, 0, 0])).tolist() == [True, True, False]
    assert task.example_inputs().shape == (1, 3)


def test_input_errors_exit_with_2() -> None:
    with pytest.raises(EqnetError) as caught:
        load_task("nothing", cache=Path(), seed=0)
    assert caught.value.exit_code == 2
    assert set(BUILT_IN) == {"digits", "fashion-mnist", "fashion-mnist-mobilenet"}
