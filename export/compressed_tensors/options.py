"""What can be asked of a folder in compressed-tensors' format, and what is said of one that was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from eqnet.packed.artifact import check_replaceable as check_method

METHOD = "compressed-tensors"
"""What config.json calls this way to quantize."""

VLLM, TRANSFORMERS = ENGINES = ("vllm", "transformers")
"""What may be going to run it: vLLM has kernels for some formats, transformers dequantizes all of them."""


@dataclass(frozen=True)
class CompressedReport:
    """What was written.

    Attributes:
        path: of the folder.
        nbytes: of all files.
        packed_bytes: of the weights' codes, scales and zero points, in exactly their bits.
        stored_bytes: of the same in the files.
        dense: names of the packed layers that were written in floating point, and the bytes of each.
        dtype: of everything in floating point, and of the answers.
        forms: how many layers are in which format.
        loads: what does, in words.
    """

    path: Path
    nbytes: int
    packed_bytes: int
    stored_bytes: int
    dense: Mapping[str, int]
    dtype: str
    forms: Mapping[str, int]
    loads: str


def check_replaceable(folder: Path) -> None:
    """Raises RunError unless the folder is empty or was written in this format."""
    check_method(folder, METHOD, "a folder of compressed-tensors")
