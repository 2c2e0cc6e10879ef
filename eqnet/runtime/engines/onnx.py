"""ONNX models, in ONNX Runtime."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from eqnet import _kernels
from eqnet.errors import InputError, MissingPackageError, RunError
from eqnet.packed.record import Record
from eqnet.runtime.engines.metadata import LAYERS, NO_RECORD, RECORD, layers_of, parse, record_of
from eqnet.runtime.runner import InputSpec, Runner, check, described

if TYPE_CHECKING:
    from eqnet.runtime.engines.onnx_layers import LayerSessions

INEXACT_PRODUCTS = "session.qdq_matmulnbits_accuracy_level"
"""At 0, inputs in floating point are multiplied with dequantized weights as they are; by default as int8."""

NO_OVERFLOW = "session.x64quantprecision"
"""At 1, no sum of two 8-bit products is kept in 16 bits, which hold it not always."""

ROUNDS_BIASES = "WeightBiasQuantization"
"""The optimizer that makes integers of biases, and so integer kernels of convolutions.

Without it, convolutions of dequantized numbers are taken in floating point, slower and exact.
"""

DTYPES: Mapping[str, torch.dtype] = {
    "tensor(float)": torch.float32,
    "tensor(double)": torch.float64,
    "tensor(float16)": torch.float16,
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
    "tensor(int16)": torch.int16,
    "tensor(int8)": torch.int8,
    "tensor(uint8)": torch.uint8,
    "tensor(bool)": torch.bool,
}
"""Types of inputs that NumPy has, too."""

CPU = Path("/proc/cpuinfo")
"""Where Linux tells what the processor has."""

_FATAL = 4
"""Severity from which ONNX Runtime logs; errors are raised."""

_DAMAGED = "is no ONNX model, or only a part of one; export or download it again"
_REMEDIES: tuple[tuple[str, str], ...] = (
    ("Protobuf parsing failed", _DAMAGED),
    ("No graph was found", _DAMAGED),
    ("Unsupported model IR version", "was written for a newer ONNX Runtime; pip install -U onnxruntime, or export it "
     "with an older opset"),
    ("is under development", "uses an opset newer than this ONNX Runtime; pip install -U onnxruntime, or export it "
     "with an older opset"),
    ("xternal data path", "lacks the file of its external data; put it beside the model, under the name that it had "
     "when it was saved"),
    ("External initializer", "has a file of external data that is cut off or of another model; copy both again"),
    ("is not a registered function/op", "has operators that this ONNX Runtime does not know; pip install -U "
     "onnxruntime, or export it without them"),
    ("No Op registered for", "has operators that this ONNX Runtime does not know; pip install -U onnxruntime, or "
     "export it without them"),
)  # fmt: skip
"""What ONNX Runtime says, and what is wrong and to be done then."""


class OnnxRunner(Runner):
    """A session of ONNX Runtime on the CPU.

    Attributes:
        metadata: of the model, as written in it.
    """

    kind = "onnx"

    def __init__(self, path: Path, session: Any, threads: int, exact: bool) -> None:
        self.metadata: dict[str, str] = dict(session.get_modelmeta().custom_metadata_map)
        inputs = tuple(_spec(path, value) for value in session.get_inputs())
        outputs = tuple(value.name for value in session.get_outputs())
        super().__init__(path, _record(path, self.metadata), inputs, outputs)
        self._session, self._threads, self._exact = session, threads, exact

    @classmethod
    def open(cls, path: Path, *, exact: bool = True, threads: int | None = None) -> OnnxRunner:
        """Raises RunError, naming the file and the remedy, if ONNX Runtime does not load it."""
        if not path.is_file():
            raise RunError(f"{path}: there is no such file")
        threads = threads or torch.get_num_threads()
        left_out = (ROUNDS_BIASES,) if exact else ()
        return cls(path, new_session(path, str(path), threads, exact=exact, left_out=left_out), threads, exact)

    def __call__(self, *xs: Tensor) -> Tensor:
        check(self.path, self.inputs, xs)
        return run(self.path, self._session, self.outputs[:1], self.feeds(xs))[0]

    def feeds(self, xs: tuple[Tensor, ...]) -> dict[str, Any]:
        """Inputs as the session takes them."""
        return {spec.name: _array(x) for spec, x in zip(self.inputs, xs)}

    def layers(self, *xs: Tensor, given: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        check(self.path, self.inputs, xs)
        if LAYERS not in self.metadata:
            return {}
        arrays = {name: _array(value) for name, value in (given or {}).items()}
        return self._inner.run(self.feeds(xs), arrays)

    def approximate(self) -> frozenset[str]:
        return self._inner.approximate() if LAYERS in self.metadata else frozenset()

    @cached_property
    def _inner(self) -> LayerSessions:
        from eqnet.runtime.engines.onnx_layers import LayerSessions

        values = layers_of(self.path, parse(self.path, LAYERS, self.metadata[LAYERS]))
        layers = self.record.layers if self.record is not None else ()
        return LayerSessions(self.path, values, layers, self._threads)

    def __str__(self) -> str:
        import onnxruntime

        said = [f"ONNX Runtime {onnxruntime.__version__}"]
        said.append("exact" if self._exact else "with its faster, less exact defaults")
        if len(self.outputs) > 1:
            said.append(f"of {len(self.outputs)} outputs the first, '{self.outputs[0]}'")
        if self.record is None:
            said.append(NO_RECORD)
        return "; ".join(said)


def new_session(
    path: Path,
    model: str | bytes,
    threads: int,
    *,
    exact: bool = True,
    optimized: bool = True,
    folder: Path | None = None,
    settings: Mapping[str, str] | None = None,
    left_out: Sequence[str] = (),
) -> Any:
    """A session on the CPU.

    Args:
        path: of the model, for messages.
        model: its path, or its bytes.
        threads: that it may use.
        exact: no product is taken with inputs that are rounded, and no sum overflows.
        optimized: False runs the graph node by node, as it is written.
        folder: of external data, if the model is given as bytes.
        settings: ONNX Runtime's own, beside those.
        left_out: names of its optimizers that are not to run.

    Raises:
        MissingPackageError: ONNX Runtime is not installed.
        RunError: it does not load the model.
    """
    try:
        import onnxruntime as ort
    except ImportError as e:
        raise MissingPackageError(f"{path}: ONNX models need ONNX Runtime ({e}); pip install 'eqnet[onnx]'") from e
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    for key, value in {**(exact_options() if exact else {}), **(settings or {})}.items():
        options.add_session_config_entry(key, value)
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    try:
        return ort.InferenceSession(model, options, ["CPUExecutionProvider"], disabled_optimizers=list(left_out))
    except Exception as e:  # the errors of ONNX Runtime share no other base
        raise RunError(f"{path}: {_what_is_wrong(str(e))}") from e


def exact_options() -> dict[str, str]:
    """Options of a session on this machine that computes what the model says."""
    # Nothing overflows where the processor has instructions for 8-bit products; the option takes twice the time there.
    return {INEXACT_PRODUCTS: "0"} | ({NO_OVERFLOW: "1"} if _may_overflow() else {})


def _may_overflow() -> bool:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        return "vnni" not in CPU.read_text(encoding="ascii", errors="replace")
    except OSError:  # no Linux
        return _kernels.isa() != "avx512"


def run(path: Path, session: Any, outputs: tuple[str, ...], feeds: Mapping[str, Any]) -> list[Tensor]:
    """The outputs of those names; raises InputError if the model refuses what it is fed."""
    try:
        arrays = session.run(list(outputs), dict(feeds))
    except Exception as e:  # the errors of ONNX Runtime share no other base
        given = described([torch.from_numpy(array) for array in feeds.values()])
        raise InputError(f"{path}: does not run on {given}: {_cleaned(str(e))}") from e
    return [torch.from_numpy(array) for array in arrays]


def _spec(path: Path, value: Any) -> InputSpec:
    if value.type not in DTYPES:
        raise InputError(f"{path}: its input '{value.name}' is a {value.type}; eqnet gives {', '.join(DTYPES)}")
    return InputSpec(
        value.name, tuple(size if isinstance(size, int) else None for size in value.shape), DTYPES[value.type]
    )


def _record(path: Path, metadata: Mapping[str, str]) -> Record | None:
    text = metadata.get(RECORD)
    return record_of(path, RECORD, parse(path, RECORD, text)) if text is not None else None


def _array(x: Tensor) -> Any:
    return x.detach().cpu().contiguous().numpy()


def _what_is_wrong(message: str) -> str:
    for said, remedy in _REMEDIES:
        if said in message:
            return f"{remedy} (ONNX Runtime: {_cleaned(message)})"
    return f"ONNX Runtime does not load it: {_cleaned(message)}"


def _cleaned(message: str) -> str:
    """Without codes, and places in the source of ONNX Runtime."""
    words = re.sub(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ", "", " ".join(message.split()))
    words = re.sub(r"Load model from .*? failed:", "", words)
    return re.sub(r"/onnxruntime_src/\S+ .*?\) (?=[A-Z])", "", words).strip()
