"""The Fashion-MNIST task reads idx files, says what is wrong with bad ones and splits the same way every time."""

from __future__ import annotations

import gzip
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from eqnet.errors import InputError
from eqnet.tasks import Task, load_task
from eqnet.tasks.fashion_mnist import DEBIAN_FOLDER, fashion_mnist, read_idx
from eqnet.tasks.networks import MobileNet, ResNet

COUNT = 36
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def images(count: int, side: int = 28) -> np.ndarray:
    """Images whose every pixel is the image's number."""
    return np.broadcast_to(np.arange(count)[:, None, None], (count, side, side))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Fashion-MNIST of 36 training and 12 test images, partly compressed, where the label is the number mod 10."""
    folder = tmp_path / "data"
    folder.mkdir()
    for stem, count in (("train", COUNT), ("t10k", 12)):
        (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images(count))))
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(idx(np.arange(count) % 10))
    monkeypatch.setenv("FASHION_MNIST", str(folder))
    return folder


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eqnet.tasks.pretraining.fit", lambda *_, **__: None)


def numbers(task: Task, split: str) -> list[int]:
    """Which images are in a split, by their pixels."""
    pixels, _ = getattr(task, split).tensors
    return ((pixels[:, 0, 0, 0] * 0.3530 + 0.2860) * 255).round().int().tolist()


@pytest.mark.usefixtures("untrained")
def test_training_images_are_divided_and_keep_their_labels(folder: Path, tmp_path: Path) -> None:
    task = load_task("fashion-mnist", cache=tmp_path, seed=0)
    train, validation = numbers(task, "train"), numbers(task, "validation")
    assert len(validation) == COUNT // 12
    assert sorted(train + validation) == list(range(COUNT))
    assert numbers(task, "test") == list(range(12))
    for split in ("train", "validation", "test"):
        pixels, labels = getattr(task, split).tensors
        assert labels.tolist() == [number % 10 for number in numbers(task, split)]
        assert (pixels.shape[1:], pixels.dtype, labels.dtype) == ((1, 28, 28), torch.float32, torch.int64)


@pytest.mark.usefixtures("untrained")
def test_splits_do_not_depend_on_the_seed(folder: Path, tmp_path: Path) -> None:
    first, other = fashion_mnist(tmp_path, 0), fashion_mnist(tmp_path, 1)
    assert numbers(first, "validation") == numbers(other, "validation")
    assert not torch.equal(first.model.fc.weight, other.model.fc.weight)


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    ("spec", "network"),
    [("fashion-mnist", ResNet), ("fashion-mnist-mobilenet", MobileNet)],
    ids=["resnet", "mobilenet"],
)
def test_each_task_has_its_network(folder: Path, tmp_path: Path, spec: str, network: type) -> None:
    task = load_task(spec, cache=tmp_path, seed=0)
    assert task.name == spec
    assert type(task.model) is network


def test_an_unknown_network_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no network 'vgg'; choose one of resnet, mobilenet"):
        fashion_mnist(tmp_path, 0, "vgg")


def test_training_leaves_global_random_state_alone(folder: Path, tmp_path: Path) -> None:
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    task = load_task("fashion-mnist", cache=tmp_path, seed=0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), before[1], strict=True))
    assert random.getstate() == before[2]
    assert all(p.isfinite().all() for p in task.model.parameters())


@pytest.mark.parametrize("missing", NAMES)
def test_a_missing_file_is_named_with_where_to_get_it(folder: Path, tmp_path: Path, missing: str) -> None:
    for path in folder.glob(f"{missing}*"):
        path.unlink()
    message = f"{folder}: has neither {missing}.gz nor {missing}; install the Debian package dataset-fashion-mnist, "
    message += "or set FASHION_MNIST to a folder with the four idx files of Fashion-MNIST"
    with pytest.raises(InputError, match=re.escape(message)):
        fashion_mnist(tmp_path, 0)


def test_the_debian_folder_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FASHION_MNIST", "")
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    with pytest.raises(InputError, match=f"^{DEBIAN_FOLDER}: has neither"):
        fashion_mnist(tmp_path, 0)


LABELS = idx(np.arange(3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with nothing, not with 00 00 08 01: it is no idx file of bytes in 1 dimensions"),
        (b"\x89PNG....", "begins with 89 50 4e 47, not with 00 00 08 01"),
        (idx(images(2, 2)), "begins with 00 00 08 03, not with 00 00 08 01"),
        (LABELS[:6], "holds 6 bytes, but its header says {any}: it is truncated"),
        (LABELS[:-1], "holds 10 bytes, but its header says 11: it is truncated; fetch the file again"),
        (LABELS + b"\0", "holds 12 bytes, but its header says 11: it is too long; fetch the file again"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_bad_idx_content_is_refused(tmp_path: Path, compressed: bool, content: bytes, message: str) -> None:
    path = tmp_path / ("labels.gz" if compressed else "labels")
    path.write_bytes(gzip.compress(content) if compressed else content)
    with pytest.raises(InputError, match=re.escape(f"{path}: {message}").replace(r"\{any\}", r"\d+")):
        read_idx(path, 1)


def _cut(content: bytes) -> bytes:
    return content[:-12]


def _garble(content: bytes) -> bytes:
    return content[:12] + bytes(b ^ 0xFF for b in content[12:])


@pytest.mark.parametrize("damage", [_cut, _garble, lambda _: b"not gzip", lambda _: b"\x1f\x8b"])
def test_bad_compression_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "labels.gz"
    path.write_bytes(damage(gzip.compress(LABELS)))
    with pytest.raises(InputError, match=rf"{path}: cannot be read \(.+\); fetch the file again"):
        read_idx(path, 1)


def test_an_idx_file_is_read_row_by_row(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "array").write_bytes(idx(array))
    np.testing.assert_array_equal(read_idx(tmp_path / "array", 3), array)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("train-images-idx3-ubyte.gz", images(COUNT, 32), "{path}: holds images of 32×32, not 28×28"),
        (
            "t10k-images-idx3-ubyte.gz",
            images(11),
            "{path}: holds 11 images, but {folder}/t10k-labels-idx1-ubyte",
        ),
        ("train-labels-idx1-ubyte", np.arange(COUNT), "{path}: holds the label 35, but there are 0 to 9"),
    ],
)
def test_files_that_are_not_fashion_mnist_are_refused(
    folder: Path, tmp_path: Path, name: str, array: np.ndarray, message: str
) -> None:
    path = folder / name
    path.write_bytes(gzip.compress(idx(array)) if path.suffix == ".gz" else idx(array))
    with pytest.raises(InputError, match=re.escape(message.format(path=path, folder=folder))):
        fashion_mnist(tmp_path, 0)


@pytest.mark.skipif(not DEBIAN_FOLDER.exists(), reason="the Debian package dataset-fashion-mnist is not installed")
@pytest.mark.usefixtures("untrained")
def test_the_real_data_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASHION_MNIST", raising=False)
    task = load_task("fashion-mnist", cache=tmp_path, seed=0)
    assert [len(d) for d in (task.train, task.validation, task.test)] == [55_000, 5_000, 10_000]
    pixels, labels = task.train.tensors
    assert abs(pixels.mean()) < 2e-3
    assert abs(pixels.std() - 1) < 2e-3
    assert labels.bincount().min() > 5_300
    assert task.test.tensors[1].bincount().tolist() == [1_000] * 10
