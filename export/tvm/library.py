"""Links one shared library of a compiled TVM program, and of what it calls and carries."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eqnet.export.tvm.toolchain import Compiler
from eqnet.files import write_atomically

RECORD = "eqnet_record"
"""The symbol of what the library says of itself: JSON, in UTF-8, ended by a zero byte."""

MODEL = "eqnet_model"
"""The symbol of a serialized model, which ends at another one, ``eqnet_model_end``."""

_EXPORTED = f"{{ global: __tvm_*; __TVM*; {RECORD}; local: *; }};"
"""All that other libraries see: what TVM's runtime looks for. Two libraries in one process do not get mixed up."""

_LINKING = (
    "-shared",
    "-pthread",
    "-s",
    "-Wl,--gc-sections",
    "-Wl,-Bsymbolic",
    "-Wl,-z,nodelete",  # threads of the kernels' pool wait in its code for as long as the process lives
)


def link_library(
    executable: Any, path: Path, compiler: Compiler, objects: Sequence[Path], data: Mapping[str, bytes]
) -> None:
    """Writes the library under a temporary name, and renames it.

    Args:
        executable: what TVM compiled.
        path: of the library.
        compiler: for the machine that the executable is for.
        objects: linked in, where something needs them.
        data: bytes by their symbols, a zero byte after each; those of ``RECORD`` can be seen from outside.

    Raises:
        RunError: the file cannot be written, or not be linked.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        carried = _data_object(data, compiler, folder)
        script = folder / "exported.map"
        script.write_text(_EXPORTED)

        def link(target: str, files: Sequence[str], **_: Any) -> None:
            compiler.run([*_LINKING, f"-Wl,--version-script={script}", *files, carried, *objects, "-o", target])

        built = folder / "library.so"
        executable.export_library(str(built), fcompile=link)
        write_atomically(path, built.read_bytes())


def _data_object(data: Mapping[str, bytes], compiler: Compiler, folder: Path) -> Path:
    """An object file of bytes, which processes that load it share, and read from its file when they are needed."""
    lines = [".section .rodata"]
    for symbol, content in data.items():
        file = folder / f"{symbol}.bin"
        file.write_bytes(content)
        visible = [] if symbol == RECORD else [f".hidden {symbol}", f".hidden {symbol}_end"]
        lines += [
            *(f".globl {name}\n.type {name}, STT_OBJECT" for name in (symbol, f"{symbol}_end")),
            *visible,
            ".balign 64",
            f'{symbol}: .incbin "{file}"',
            f"{symbol}_end: .byte 0",
            f".size {symbol}, . - {symbol}",
        ]
    lines += ['.section .note.GNU-stack, "", %progbits', ""]
    source, result = folder / "data.s", folder / "data.o"
    source.write_text("\n".join(lines))
    compiler.run(["-c", source, "-o", result])
    return result
