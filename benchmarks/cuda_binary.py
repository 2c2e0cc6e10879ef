"""What machine code for GPUs says of its kernels, by NVIDIA's cuobjdump: registers, memory, instructions."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ARCHITECTURE = re.compile(r"^(?:arch = |\s*code for )sm_(\d+)")
_FUNCTION = re.compile(r"^\s*Function\s*:?\s+(\w+)")
_RESOURCE = re.compile(r"\b([A-Z]+):(\d+)")
_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)")

_RESERVED, _COUNTS_RESERVED = 1024, 90
"""Bytes of shared memory that CUDA keeps of each block, and the architecture from which on cuobjdump counts them."""


@dataclass(frozen=True)
class Kernel:
    """One kernel on one architecture.

    Attributes:
        name: as C++ has it, with its template arguments and without its parameters.
        architecture: 75, 80, ...
        registers: of a thread.
        stack: bytes of a thread.
        spills: instructions that read or write memory of a thread alone.
        shared: bytes of a block, beside what a launch asks for.
        instructions: how often each stands in the code.
    """

    name: str
    architecture: int
    registers: int
    stack: int
    spills: int
    shared: int
    instructions: Counter[str]

    @property
    def family(self) -> str:
        """The name without template arguments."""
        return self.name.partition("<")[0]

    def has(self, pattern: str) -> bool:
        """Whether an instruction matches the regular expression from its beginning."""
        return any(re.match(pattern, instruction) for instruction in self.instructions)


def kernels(library: Path) -> list[Kernel]:
    """All kernels of a library, on all architectures that it has machine code for.

    Raises:
        SystemExit: cuobjdump is missing, or fails.
    """
    tool = _cuobjdump()
    resources = dict(_of_functions(tool, "--dump-resource-usage", library))  # a line each
    counted: dict[tuple[int, str], Counter[str]] = {}
    for key, line in _of_functions(tool, "--dump-sass", library):
        counts = counted.setdefault(key, Counter())
        if instruction := _INSTRUCTION.match(line):
            counts[instruction[1]] += 1
    names = _readable([name for _, name in resources])
    found = []
    for (architecture, mangled), line in resources.items():
        resource = {name: int(value) for name, value in _RESOURCE.findall(line)}
        instructions = counted[architecture, mangled]
        found.append(
            Kernel(
                name=names[mangled],
                architecture=architecture,
                registers=resource["REG"],
                stack=resource["STACK"] + resource["LOCAL"],
                spills=sum(n for name, n in instructions.items() if name.partition(".")[0] in {"LDL", "STL"}),
                shared=max(resource["SHARED"] - (_RESERVED if architecture >= _COUNTS_RESERVED else 0), 0),
                instructions=instructions,
            )
        )
    return sorted(found, key=lambda kernel: (kernel.name, kernel.architecture))


def readable_name(name: str) -> str:
    """A kernel's name without namespaces, parameters, and casts of its template arguments."""
    name = name.replace("eqnet::emulator::Narrow<5, 10>", "__half").replace(
        "eqnet::emulator::Narrow<8, 7>", "__nv_bfloat16"
    )
    name = name.removeprefix("void ").replace("eqnet::cuda::", "").replace("(int)", "")
    depth = 0
    for at, letter in enumerate(name):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            return name[:at]
    return name


def _of_functions(tool: str, option: str, library: Path) -> Iterator[tuple[tuple[int, str], str]]:
    """The lines of each function, with its architecture and mangled name."""
    architecture, function = 0, ""
    with subprocess.Popen([tool, option, str(library)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Fatbin"):
                function = ""
            elif match := _ARCHITECTURE.match(line):
                architecture = int(match[1])
            elif match := _FUNCTION.match(line):
                function = match[1]
            elif function and line.strip():
                yield (architecture, function), line
    if process.returncode:
        raise SystemExit(f"{tool} {option} {library} failed with status {process.returncode}")


def _readable(mangled: list[str]) -> dict[str, str]:
    unique = sorted(set(mangled))
    lines = subprocess.run(["c++filt"], input="\n".join(unique), capture_output=True, text=True, check=True).stdout
    return {name: readable_name(line) for name, line in zip(unique, lines.splitlines(), strict=True)}


def _cuobjdump() -> str:
    packages = Path(sysconfig.get_path("purelib")) / "nvidia"
    for folder in (None, *sorted(str(path) for path in packages.glob("cu*/bin"))):
        if found := shutil.which("cuobjdump", path=folder):
            return found
    raise SystemExit(
        "cuobjdump is missing: install NVIDIA's CUDA toolkit, or pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm"
    )
