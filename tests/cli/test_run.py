"""``eqnet run``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eqnet import load
from tests.cli.command import Command, refused
from tests.cli.small_tasks import _data, _network

ROUNDING = 0.05
"""Logits: a value half-way between two codes may go to the other one, where sums are made in another order."""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """100 images of the task."""
    np.save(tmp_path / "x.npy", _data(100, 9).tensors[0].numpy())
    return tmp_path / "x.npy"


def test_outputs_are_those_of_the_packed_model(
    eqnet: Command, small_task: str, artifact: Path, images: Path, tmp_path: Path
) -> None:
    ended = eqnet("run", artifact, "--input", images, "-o", tmp_path / "y.npy", "--task", small_task)
    assert ended.status == 0, ended.err
    written = np.load(tmp_path / "y.npy", allow_pickle=False)
    expected = load(artifact, _network)(torch.from_numpy(np.load(images))).numpy()
    assert written.dtype == np.float32
    assert np.abs(written - expected).max() < ROUNDING
    lines = ended.out.splitlines()
    assert lines[0].endswith("x.npy: read an array [100, 1, 6, 6] of float32. Runs as one integer program.")
    assert "Most probable classes, the first 10 of 100" in lines[1]
    assert lines[-1] == f"Outputs: {tmp_path / 'y.npy'}"
    first = next(line for line in lines if line.startswith("│ 0 "))
    assert f"{expected[0].argmax()}: " in first.split("│")[2]


def test_a_single_input_gives_a_single_output(
    eqnet: Command, small_task: str, artifact: Path, images: Path, tmp_path: Path
) -> None:
    x = np.load(images)
    np.save(tmp_path / "one.npy", x[3])
    common = ("--task", small_task, "--json", "-o")
    one = eqnet("run", artifact, "--input", tmp_path / "one.npy", *common, tmp_path / "one-y.npy")
    assert eqnet("run", artifact, "--input", images, *common, tmp_path / "y.npy").status == 0
    alone = np.load(tmp_path / "one-y.npy")
    assert alone.shape == (4,)
    assert (alone == np.load(tmp_path / "y.npy")[3]).all()
    found = json.loads(one.out)
    assert found["shape"] == [4]
    assert found["runs"] == "one integer program"
    shares = np.exp(alone) / np.exp(alone).sum()
    assert [row["class"] for row in found["top"][0]] == np.argsort(-alone).tolist()
    assert [row["probability"] for row in found["top"][0]] == pytest.approx(sorted(shares, reverse=True), rel=1e-4)


def test_an_image_is_said_to_be_converted(eqnet: Command, small_task: str, artifact: Path, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), (200, 100, 50)).save(tmp_path / "x.png")
    common = ("run", artifact, "--input", tmp_path / "x.png", "--task", small_task)
    refused(eqnet(*common), "x.png", "give --mean and --std")
    ended = eqnet(*common, "--mean", "0.5", "--std", "0.25")
    assert ended.status == 0, ended.err
    assert ended.out.splitlines()[0].endswith(
        "read an image of 30×20, mode RGB; converted it to L; resized it to 6×6, whatever its proportions; scaled "
        "pixels to 0 to 1; subtracted the mean 0.5 and divided by 0.25. Runs as one integer program."
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--mean", "0.5"), ("--mean and --std go together",)),
        (("--mean", "a", "--std", "1"), ("--mean a: expected numbers",)),
        (("--mean", "0", "--std", "0"), ("deviations are above zero",)),
        (("-o", "y.txt"), ("y.txt", ".npy")),
        (("-o", "/proc/y.npy"), ("/proc/y.npy: cannot be written",)),
    ],
    ids=["half", "no-number", "zero", "no-array", "read-only"],
)
def test_bad_options_are_refused(
    eqnet: Command, small_task: str, artifact: Path, images: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    refused(eqnet("run", artifact, "--input", images, "--task", small_task, *options), *words)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2, 3, 6, 6), ("[2, 3, 6, 6]", "its task's inputs are [N, 1, 6, 6]")),
        ((2, 1, 9, 9), ("its task's inputs are [N, 1, 6, 6]",)),
        ((0, 1, 6, 6), ("[0, 1, 6, 6]", "at least one input")),
        ((6, 6), ("is of shape [6, 6]; expected [1, 6, 6], or [N, 1, 6, 6]",)),
    ],
    ids=str,
)
def test_inputs_of_another_shape_are_refused_with_the_right_one(
    eqnet: Command, small_task: str, artifact: Path, tmp_path: Path, shape: tuple[int, ...], words: tuple[str, ...]
) -> None:
    np.save(tmp_path / "x.npy", np.zeros(shape, np.float32))
    refused(eqnet("run", artifact, "--input", tmp_path / "x.npy", "--task", small_task), "x.npy", *words)


def test_folder_that_is_no_artifact_is_refused(
    eqnet: Command, finished_run: Path, images: Path, tmp_path: Path
) -> None:
    refused(eqnet("run", finished_run, "--input", images), str(finished_run), "config.json")
    refused(eqnet("run", tmp_path / "nothing", "--input", images), "nothing: there is no such folder")
