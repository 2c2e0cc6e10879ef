"""Text as windows of tokens: what weights are calibrated on, and what models are measured on."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eqnet.errors import InputError

PARTS = ("calibration", "held-out", "all")
"""Of a text: its first three quarters, its last one, or both."""

BYTE_VOCABULARIES = range(256, 260)
"""Sizes of vocabularies that are the bytes themselves, and up to three special tokens behind them."""

_SHARE = 4
"""One part in so many is held out."""

_SEPARATOR = "\n\n"


def windows(
    tokenizer: Any,
    files: Sequence[str | Path] | None = None,
    *,
    length: int = 512,
    part: str = "calibration",
    count: int | None = None,
    seed: int = 0,
    vocabulary: int | None = None,
) -> Tensor:
    """Windows of consecutive tokens that do not overlap, in the order of the text.

    Each window begins with what the tokenizer puts before a text (``<bos>``, say), if it does so.

    Args:
        tokenizer: of transformers; None for a model without one.
        files: UTF-8 text, one after the other; or, with the ending ``.npy``, token ids as an array of integers, which
            take no tokenizer. None for the 256 KB of public-domain English that come with eqnet.
        length: of a window, in tokens.
        part: ``calibration``, the first three quarters of the text; ``held-out``, the last one; or ``all``.
        count: how many windows are drawn, without repetition; all of them if None, or if there are no more.
        seed: of the draw.
        vocabulary: size of the model's vocabulary; without a tokenizer, 256 to 259 means bytes.

    Returns:
        int64 [count, length].

    Raises:
        InputError: a file is missing, empty, not UTF-8 or too short; there is no tokenizer and the vocabulary is not
            that of bytes; or ``part``, ``length`` or ``count`` cannot be.
    """
    if part not in PARTS:
        raise InputError(f"part='{part}' is unknown; choose {', '.join(PARTS)}")
    if length < 2 or (count is not None and count < 1):
        raise InputError(f"{count} windows of {length} tokens were asked for; expected at least 1 of at least 2")
    prefix = _prefix(tokenizer)
    if files and all(Path(file).suffix == ".npy" for file in files):
        ids, prefix = _part_of(torch.cat([_read_ids(Path(file)) for file in files]), part), []
    else:
        ids = _encode(_part_of_text(_read(files), part), tokenizer, vocabulary)
    step = length - len(prefix)
    found = len(ids) // step if step > 0 else 0
    if not found:
        raise InputError(
            f"{_named(files)}: its {part} part has {len(ids)} tokens, fewer than one window of {length}; "
            "give more text, or a smaller length"
        )
    rows = ids[: found * step].view(found, step)
    if count is not None and count < found:
        chosen = torch.randperm(found, generator=torch.Generator().manual_seed(seed))[:count]
        rows = rows[chosen.sort().values]
    return torch.cat([torch.tensor(prefix, dtype=torch.int64).expand(len(rows), -1), rows], 1)


def packaged() -> str:
    """The text that comes with eqnet; ``eqnet/lm/data/README.md`` says where it is from."""
    return resources.files("eqnet.lm").joinpath("data/addresses.txt").read_text(encoding="utf-8")


def _named(files: Sequence[str | Path] | None) -> str:
    return ", ".join(map(str, files)) if files else "the text that comes with eqnet"


def _read(files: Sequence[str | Path] | None) -> str:
    return _SEPARATOR.join(_read_text(Path(file)) for file in files) if files else packaged()


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as e:
        raise InputError(f"{path}: cannot be read ({e.strerror or e}); give a text file") from e
    if path.suffix == ".npy":
        raise InputError(f"{path}: token ids cannot stand beside text; give files of one kind")
    if not content.strip():
        raise InputError(f"{path}: is empty; give a file with text in it")
    if b"\0" in content:
        raise InputError(f"{path}: holds binary data; give text in UTF-8, or token ids as an .npy file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise InputError(
            f"{path}: is not UTF-8 (byte {e.start} is 0x{content[e.start]:02x}); convert it, or give token ids as an "
            ".npy file"
        ) from e


def _read_ids(path: Path) -> Tensor:
    try:
        ids = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as e:
        raise InputError(f"{path}: cannot be read as an array ({e}); write it with numpy.save") from e
    if not isinstance(ids, np.ndarray) or ids.dtype.kind not in "iu" or not ids.size or int(ids.min()) < 0:
        raise InputError(f"{path}: expected an array of token ids, integers of at least 0")
    return torch.from_numpy(ids.astype(np.int64)).flatten()


def _part_of(ids: Tensor, part: str) -> Tensor:
    bounds = len(ids) - len(ids) // _SHARE
    return {"calibration": ids[:bounds], "held-out": ids[bounds:], "all": ids}[part]


def _part_of_text(text: str, part: str) -> str:
    """Cut at a white space, so that no word is in both parts."""
    bounds = len(text) - len(text) // _SHARE
    while 0 < bounds < len(text) and not text[bounds - 1].isspace():
        bounds += 1
    return {"calibration": text[:bounds], "held-out": text[bounds:], "all": text}[part]


def _encode(text: str, tokenizer: Any, vocabulary: int | None) -> Tensor:
    if tokenizer is not None:
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return torch.tensor(ids, dtype=torch.int64)
    if vocabulary in BYTE_VOCABULARIES:
        return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).long()
    of_size = f" of {vocabulary} tokens" if vocabulary is not None else ""
    raise InputError(
        f"the model comes without a tokenizer, and its vocabulary{of_size} is not that of bytes (256 to 259); put the "
        "tokenizer's files into its folder, or give token ids: an .npy file of integers"
    )


def _prefix(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before a text."""
    if tokenizer is None:
        return []
    with_special, plain = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (True, False))
    return [int(token) for token in with_special[: len(with_special) - len(plain)]] if plain else []
