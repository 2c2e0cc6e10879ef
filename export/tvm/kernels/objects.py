"""Eqnet's kernels as something that a linker takes: the archive for this machine, or compiled for another one."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from eqnet import _kernels
from eqnet.errors import RunError
from eqnet.export.tvm.toolchain import Compiler

INSTALLED = Path(_kernels.__file__).parent
"""Where the archive is, and the sources in a folder."""

ARCHIVE, SOURCES = INSTALLED / "libeqnet_kernels.a", INSTALLED / "cpp"

_OPTIONS = ("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-fvisibility-inlines-hidden")
_ROUNDING = ("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off")


@dataclass(frozen=True)
class Part:
    """Some of the kernels.

    Attributes:
        function: the one that TVM calls, in ``cpp/tvm/``.
        sources: that it needs: files in ``cpp/cpu/``, and folders there.
    """

    function: str
    sources: tuple[str, ...]


_COMMON = ("crc32.cpp", "isa.cpp", "threads.cpp", "serialized/reader.cpp")
PROGRAM_PART = Part("program", ("conv", "program", "serialized/program.cpp", *_COMMON))
LINEAR_PART = Part("linear", ("linear", "serialized/layers.cpp", *_COMMON))


def kernel_objects(part: Part, compiler: Compiler, folder: Path) -> list[Path]:
    """What the linker takes for ``part``.

    Args:
        part: of the kernels.
        compiler: for the machine that they are for.
        folder: for what is compiled.

    Raises:
        RunError: the sources are missing, or cannot be compiled.
    """
    if not SOURCES.is_dir():
        raise RunError(f"{SOURCES}: the sources of eqnet's kernels are missing; install eqnet again")
    jobs = [(SOURCES / "tvm" / f"{part.function}.cpp", [*_OPTIONS, *_includes()])]
    ready = [ARCHIVE] if compiler.is_native and ARCHIVE.exists() else []
    if not ready:
        options = [*_OPTIONS, *_ROUNDING, f"-I{SOURCES / 'include'}"]
        jobs += [(path, [*options, *own]) for path, own in _sources(part, compiler.processor)]
    objects = [folder / f"{i}.o" for i in range(len(jobs))]

    def compile(i: int) -> None:
        path, options = jobs[i]
        compiler.run([*options, "-c", path, "-o", objects[i]])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile, range(len(jobs))))
    return [*objects, *ready]


def _includes() -> list[str]:
    from tvm_ffi import libinfo

    folders = (SOURCES / "include", libinfo.find_include_path(), libinfo.find_dlpack_include_path())
    return [f"-I{folder}" for folder in folders]


def _sources(part: Part, processor: str) -> list[tuple[Path, list[str]]]:
    """Those of ``part`` for a processor, each with its options; vectors, which take longest to compile, first."""
    vectors = vector_options((SOURCES / "vectors.txt").read_text())
    cpu = SOURCES / "cpu"
    paths = [path for name in part.sources for path in (cpu.glob(f"{name}/*.cpp") if "." not in name else [cpu / name])]
    result = []
    for path in sorted(paths, key=lambda path: (path.relative_to(cpu).as_posix() not in vectors, path)):
        name = path.relative_to(cpu).as_posix()
        wanted, options = vectors.get(name, ("any", ()))
        if wanted in ("any", processor):
            result.append((path, [*options]))
    return result


def vector_options(table: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Processor and options of the sources that are compiled with some of their own, from ``cpp/vectors.txt``."""
    result: dict[str, tuple[str, tuple[str, ...]]] = {}
    processor, options = "any", tuple[str, ...]()
    for line in table.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if not line[0].isspace():
            processor, *rest = line.split()
            options = tuple(rest)
        else:
            result.update(dict.fromkeys(line.split(), (processor, options)))
    return result
