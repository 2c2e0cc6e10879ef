"""Text as windows of tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from eqnet.errors import InputError
from eqnet.lm.text import packaged, windows


class _Words:
    """A tokenizer of words by their lengths, with or without a token in front."""

    def __init__(self, first: list[int]) -> None:
        self.first = first

    def __call__(self, text: str, add_special_tokens: bool = True, verbose: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [*(self.first if add_special_tokens else []), *map(len, text.split())]}


def _bytes(windows: torch.Tensor) -> str:
    return bytes(windows.flatten().tolist()).decode()


def test_the_text_that_comes_along_is_256_kb_of_english() -> None:
    text = packaged()
    assert 255 * 1024 < len(text.encode()) <= 256 * 1024
    assert text.isascii()
    assert text.count(" the ") > 3000


def test_parts_are_apart_and_each_whole() -> None:
    whole, front, back = (
        _bytes(windows(None, length=2, part=part, vocabulary=256)) for part in ("all", "calibration", "held-out")
    )
    assert whole.startswith(front)
    assert whole.endswith(back)
    assert abs(len(back) - len(whole) / 4) < 10
    assert len(front) + len(back) == pytest.approx(len(whole), abs=4)  # what does not fill a window is left over


def test_windows_follow_each_other(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("abcdefghij", encoding="utf-8")
    assert _bytes(windows(None, [file], length=4, part="all", vocabulary=259)) == "abcdefgh"


def test_a_draw_has_no_window_twice_and_follows_the_seed() -> None:
    drawn = [windows(None, length=64, count=9, seed=seed, vocabulary=256) for seed in (3, 3, 4)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert drawn[0].shape == (9, 64)
    assert len(drawn[0].unique(dim=0)) == 9


def test_fewer_windows_than_asked_for_are_all_of_them(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("abcdefghij", encoding="utf-8")
    assert windows(None, [file], length=4, part="all", count=9, vocabulary=256).shape == (2, 4)


def test_each_window_begins_with_what_the_tokenizer_puts_first(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("a bb ccc dddd eeeee", encoding="utf-8")
    assert windows(_Words([99]), [file], length=3, part="all").tolist() == [[99, 1, 2], [99, 3, 4]]
    assert windows(_Words([]), [file], length=3, part="all").tolist() == [[1, 2, 3]]


def test_files_are_read_in_order(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).write_text(3 * name, encoding="utf-8")
    assert _bytes(windows(None, [tmp_path / "b", tmp_path / "a"], length=8, part="all", vocabulary=256)) == "bbb\n\naaa"


def test_ids_take_no_tokenizer(tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", np.arange(8, dtype=np.uint16).reshape(2, 4))
    assert windows(None, [tmp_path / "ids.npy"], length=3, part="calibration").tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"ab\0c", "binary data"),
        (b"caf\xe9 au lait", "not UTF-8 .byte 3 is 0xe9."),
        (b"short", "fewer than one window of 512"),
    ],
)
def test_files_that_are_no_text_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "bad.txt"
    file.write_bytes(content)
    with pytest.raises(InputError, match=f"bad.txt.*{message}"):
        windows(None, [file], vocabulary=256)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.txt: cannot be read"):
        windows(None, [tmp_path / "none.txt"], vocabulary=256)


@pytest.mark.parametrize("stored", [np.array([0.5]), np.array([-1]), np.array([], dtype=np.int64)])
def test_arrays_that_are_no_ids_are_refused(tmp_path: Path, stored: np.ndarray) -> None:
    np.save(tmp_path / "ids.npy", stored)
    with pytest.raises(InputError, match=r"ids\.npy: expected an array of token ids"):
        windows(None, [tmp_path / "ids.npy"])


def test_without_tokenizer_the_error_names_the_remedy() -> None:
    with pytest.raises(InputError, match=r"vocabulary of 49152 tokens.*give token ids"):
        windows(None, vocabulary=49152)


@pytest.mark.parametrize("options", [{"part": "test"}, {"length": 1}, {"count": 0}])
def test_impossible_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        windows(None, vocabulary=256, **options)  # type: ignore[arg-type]
