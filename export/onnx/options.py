"""What can be asked of an ONNX file, and what is said of one that was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class OnnxOptions:
    """What can be asked of an ONNX file.

    Attributes:
        portable: operators of the standard alone, none of ONNX Runtime's own.
        exact: no result of a layer is rounded that the packed model does not round. If None, it is so in models with an
            input of fewer than 8 bits, where such a change may grow to a step of that.
        opset: version of the operators; the oldest one that has the types of the codes if None.
    """

    portable: bool = False
    exact: bool | None = None
    opset: int | None = None


@dataclass(frozen=True)
class LayerForm:
    """How a layer was written.

    Attributes:
        integer: whether ONNX Runtime runs its product on integers.
        text: for people.
    """

    integer: bool
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class OnnxReport:
    """What was written.

    Attributes:
        path: of the file.
        nbytes: of the file and of what lies beside it.
        packed_bytes: of the weights' codes, scales and zero points, in exactly their bits.
        stored_bytes: of the same as the file holds them: in types of ONNX, 3 bits take 4, and 5 to 7 take 8.
        opset: version of the standard operators.
        layers: how each was written, by name; only those that the model calls.
        dynamic: names of the dimensions that may have any size.
    """

    path: Path
    nbytes: int
    packed_bytes: int
    stored_bytes: int
    opset: int
    layers: Mapping[str, LayerForm]
    dynamic: tuple[str, ...]

    def forms(self) -> dict[str, int]:
        """How many layers were written in which form."""
        texts = [form.text for form in self.layers.values()]
        return {text: texts.count(text) for text in dict.fromkeys(texts)}

    def __str__(self) -> str:
        lines = [
            f"{self.path}: {self.nbytes:,} bytes, opset {self.opset}, any {' and '.join(self.dynamic) or 'one size'}",
            f"  weights: {self.stored_bytes:,} bytes; {self.packed_bytes:,} in exactly their bits",
            *(f"  {count} × {text}" for text, count in self.forms().items()),
        ]
        return "\n".join(lines)
