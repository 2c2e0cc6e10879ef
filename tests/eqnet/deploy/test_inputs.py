"""Reading what a model is run on."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eqnet.deploy.inputs import Taken, read_inputs
from eqnet.errors import InputError, MissingPackageError
from eqnet.tasks import Normalization

GRAY = Taken((1, 4, 6), torch.float32, Normalization((0.25,), (0.5,)))
COLOR = Taken((3, 2, 2), torch.float32, Normalization((0.1, 0.2, 0.3), (0.5, 1.0, 2.0)))
TOKENS = Taken((7,), torch.int64)

ROUNDING = 1e-6
"""Pixels, means and deviations below 10 in float32."""


def _saved(tmp_path: Path, array: object) -> Path:
    np.save(tmp_path / "x.npy", array)
    return tmp_path / "x.npy"


@pytest.mark.parametrize("batched", [True, False])
def test_array_with_and_without_batch(tmp_path: Path, batched: bool) -> None:
    array = np.random.default_rng(0).random((3, 1, 4, 6), dtype=np.float32)
    found = read_inputs(_saved(tmp_path, array if batched else array[0]), GRAY)
    assert found.batched is batched
    assert torch.equal(found.x, torch.from_numpy(array if batched else array[:1]))


def test_arrays_in_other_orders_are_the_same_numbers(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.float32).reshape(1, 4, 6)
    for stored in (np.asfortranarray(array), array.astype(">f4")):
        assert torch.equal(read_inputs(_saved(tmp_path, stored), GRAY).x[0], torch.from_numpy(array))


def test_array_for_a_model_that_says_nothing_is_a_batch(tmp_path: Path) -> None:
    array = np.ones((2, 5), dtype=np.float32)
    found = read_inputs(_saved(tmp_path, array), None)
    assert found.batched
    assert found.x.shape == (2, 5)
    with pytest.raises(InputError, match=r"expected a batch"):
        read_inputs(_saved(tmp_path, array[0]), None)


def test_integers_are_read_where_the_model_takes_them(tmp_path: Path) -> None:
    assert read_inputs(_saved(tmp_path, np.arange(7)), TOKENS).x.tolist() == [[*range(7)]]
    with pytest.raises(InputError, match=r"holds float64; the model takes int64"):
        read_inputs(_saved(tmp_path, np.zeros(7)), TOKENS)


def test_another_size_is_said(tmp_path: Path) -> None:
    found = read_inputs(_saved(tmp_path, np.zeros((1, 8, 8), np.float32)), GRAY)
    assert "another size than [1, 4, 6], what the model was made for" in found.said[-1]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((1, 4, 6)), r"holds float64; the model takes float32"),
        (np.zeros((4, 6), np.float32), r"is of shape \[4, 6\]; expected \[1, 4, 6\], or \[N, 1, 4, 6\]"),
        (np.full((1, 4, 6), np.nan, np.float32), "inf or NaN"),
        (np.array([{"a": 1}], dtype=object), "no .npy array of numbers"),
        (np.array(["text"]), "the model takes float32"),
    ],
    ids=["double", "no-channels", "nan", "objects", "text"],
)
def test_unfit_array_is_refused_by_name(tmp_path: Path, array: object, message: str) -> None:
    path = _saved(tmp_path, array)
    with pytest.raises(InputError, match=message) as error:
        read_inputs(path, GRAY)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04", b"hello", b"\x80\x04N."], ids=repr)
def test_file_that_is_no_array_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.npy"):
        read_inputs(tmp_path / "x.npy", GRAY)


def test_archive_and_missing_file_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.zeros(2))
    (tmp_path / "x.npz").rename(tmp_path / "x.npy")
    with pytest.raises(InputError, match="array of numbers"):
        read_inputs(tmp_path / "x.npy", GRAY)
    with pytest.raises(InputError, match=r"missing\.npy: cannot be read"):
        read_inputs(tmp_path / "missing.npy", GRAY)


def test_gray_image_is_normalized(tmp_path: Path) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    Image.fromarray(pixels).save(tmp_path / "x.png")
    found = read_inputs(tmp_path / "x.png", GRAY)
    assert found.x.shape == (1, 1, 4, 6)
    assert not found.batched
    expected = (pixels.astype(np.float64) / 255 - 0.25) / 0.5
    assert np.abs(found.x[0, 0].numpy() - expected).max() < ROUNDING
    assert not any("converted" in said or "resized" in said for said in found.said)


def test_channels_are_normalized_each_by_its_own(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), (255, 51, 0)).save(tmp_path / "x.png")
    found = read_inputs(tmp_path / "x.png", COLOR).x[0, :, 0, 0].tolist()
    assert found == pytest.approx([(1 - 0.1) / 0.5, (0.2 - 0.2) / 1.0, (0 - 0.3) / 2.0], abs=ROUNDING)
    own = read_inputs(tmp_path / "x.png", COLOR, Normalization((0.0,), (1.0,))).x[0, :, 0, 0].tolist()
    assert own == pytest.approx([1, 0.2, 0], abs=ROUNDING)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "P", "1", "LA"])
def test_image_of_any_mode_and_size_becomes_what_the_model_takes(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (13, 9), (255, 255, 255)).convert(mode).save(tmp_path / "x.tiff")
    for origin in (GRAY, COLOR):
        found = read_inputs(tmp_path / "x.tiff", origin)
        assert tuple(found.x.shape[1:]) == origin.shape
        assert any(said.startswith("resized it to") for said in found.said)
    assert found.x[0, 0].numpy() == pytest.approx(1.8, abs=ROUNDING), "white"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\nhello"), "cannot be read as an image"),
        (lambda path: path.write_text("no image"), "cannot be read as an image"),
        (lambda path: Image.new("I;16", (6, 4)).save(path, "png"), "save it with 8 bits"),
        (lambda path: None, "cannot be read as an image"),
    ],
    ids=["damaged", "text", "16-bits", "missing"],
)
def test_unfit_image_is_refused_by_name(tmp_path: Path, make, message: str) -> None:
    make(tmp_path / "x.png")
    with pytest.raises(InputError, match=message) as error:
        read_inputs(tmp_path / "x.png", GRAY)
    assert "x.png" in str(error.value)


@pytest.mark.parametrize("taken", [None, TOKENS, Taken((2, 4, 4), torch.float32)], ids=str)
def test_image_for_a_model_that_takes_none_is_refused(tmp_path: Path, taken: Taken | None) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "x.png")
    with pytest.raises(InputError, match=r"give an array as \.npy"):
        read_inputs(tmp_path / "x.png", taken)


def test_image_needs_a_normalization_that_fits(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "x.png")
    silent = Taken((1, 4, 6), torch.float32)
    with pytest.raises(InputError, match="--mean and --std"):
        read_inputs(tmp_path / "x.png", silent)
    with pytest.raises(InputError, match="mean has 2 values"):
        read_inputs(tmp_path / "x.png", silent, Normalization((0.5, 0.5), (1.0,)))
    with pytest.raises(InputError, match="are for images"):
        read_inputs(_saved(tmp_path, np.zeros((1, 4, 6), np.float32)), GRAY, Normalization((0.5,), (1.0,)))


def test_without_pillow_an_image_is_refused_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (6, 4)).save(tmp_path / "x.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingPackageError, match="pip install pillow"):
        read_inputs(tmp_path / "x.png", GRAY)
