"""Loading a large artifact: seconds from ``eqnet.load`` to the first output, and the memory that it takes.

A stack of linear layers of 4 bits in groups of 32, with fp16 scales, is written to a temporary folder, without ever
being a model in floating point. Each round then loads it in a fresh process that has imported torch and eqnet, and runs
it on one token. The files are in the page cache, as they have just been written.

A virtual machine that gives free memory back to its host gets it again at a fraction of the speed of memory. Each
process therefore holds as much as the file takes, touched before the call, and frees it between loading and running;
``--fresh-memory`` leaves that out. ``busy s`` is the processors' time for both, which other processes hardly change.

    python benchmarks/load.py --gigabytes 1 --rounds 5
"""

from __future__ import annotations

import argparse
import json
import mmap
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from common import show
from torch import nn

import eqnet
from eqnet import Format, PackedModel
from eqnet.packed.layers import PackedLinear
from eqnet.packed.planes import plane_bytes
from eqnet.packed.record import LayerRecord, Record
from eqnet.packed.tensor import PackedTensor

SECONDS = 1.0
"""From the call to the first output, at most."""

MEMORY = 1.15
"""Peak of the process's memory, beyond what it took before the call, over the size of the file, at most."""

WIDTH = 4096
FORMAT = Format.parse("int4:group32")


def stack(count: int) -> nn.Module:
    return nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(count)))


def packed(count: int) -> PackedModel:
    """Layers of random codes."""
    with torch.device("meta"):
        model = stack(count)
    record = LayerRecord("Linear", FORMAT, None, (WIDTH, WIDTH), "float32")
    for name, layer in model.named_children():
        PackedLinear.convert(layer, name, weight())
    return PackedModel(model, Record({name: record for name, _ in model.named_children()}))


def weight() -> PackedTensor:
    codes = torch.empty(plane_bytes(WIDTH * WIDTH, FORMAT.bits), dtype=torch.uint8).random_()
    scale = torch.rand(FORMAT.scale_shape(WIDTH, WIDTH)).add(0.5).div(WIDTH).half()  # outputs neither grow nor vanish
    return PackedTensor(FORMAT, WIDTH, WIDTH, codes, scale, None)


def loaded(folder: Path, count: int, threads: int, fresh: bool) -> dict[str, float]:
    """What one load takes in this process, which has done nothing else yet."""
    torch.set_num_threads(threads)
    load, x = eqnet.load, torch.ones(1, WIDTH)
    before = _status("VmRSS")
    spare = None if fresh else touched(bytes_of(folder) + bytes_of(folder) // 8)
    start, busy = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        model = load(folder, partial(stack, count))
        opened = time.perf_counter()
        busy = time.process_time() - busy
        if spare is not None:
            spare.close()
        # The peak is counted from here, where all that was read since the call is still there.
        Path("/proc/self/clear_refs").write_text("5", "utf-8")
        again, busy = time.perf_counter(), busy - time.process_time()
        y = model(x)
    end, busy = time.perf_counter(), busy + time.process_time()
    assert torch.isfinite(y).all()
    return {
        "load s": opened - start,
        "first output s": end - again,
        "both s": opened - start + end - again,
        "busy s": busy,
        "peak GB": (_status("VmHWM") - before) / 1e9,
        "afterwards GB": (_status("VmRSS") - before) / 1e9,
    }


def touched(nbytes: int) -> mmap.mmap:
    """Memory in large pages, as the kernels take it."""
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    torch.frombuffer(memory, dtype=torch.uint8).fill_(1)
    return memory


def bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _status(name: str) -> int:
    """Bytes, of what Linux says of this process; mapped files count while they are resident."""
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise SystemExit(f"/proc/self/status has no {name}: this benchmark needs Linux")


def rounds(folder: Path, count: int, arguments: argparse.Namespace) -> Iterator[dict[str, float]]:
    for _ in range(arguments.rounds):
        command = [sys.executable, __file__, "--loads", str(folder), "--layers", str(count)]
        command += ["--threads", str(arguments.threads), *(["--fresh-memory"] if arguments.fresh_memory else [])]
        yield json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of the artifact")
    parser.add_argument("--rounds", type=int, default=5, help="loads, each in a process of its own")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--folder", type=Path, help="for the artifact; reused if it is there, and kept")
    parser.add_argument("--fresh-memory", action="store_true", help="take memory as the machine has it")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--loads", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--layers", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loads:
        print(json.dumps(loaded(arguments.loads, arguments.layers, arguments.threads, arguments.fresh_memory)))
        return
    count = max(1, round(arguments.gigabytes * 1e9 / weight().nbytes))
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary) / "artifact"
        if not (folder / "config.json").exists():
            packed(count).save(folder)
        nbytes = bytes_of(folder)
        every = list(rounds(folder, count, arguments))
    row = {"file GB": nbytes / 1e9, "threads": arguments.threads}
    row |= {name: statistics.median(taken[name] for taken in every) for name in every[0]}
    row |= {"fastest s": min(taken["both s"] for taken in every), "peak / file": 1e9 * row["peak GB"] / nbytes}
    show([row], arguments.json)
    if not arguments.json:
        met = {f"first output within {SECONDS} s": row["both s"] <= SECONDS}
        met[f"peak within {MEMORY} times the file"] = row["peak / file"] <= MEMORY
        print(*(f"{'met' if ok else 'MISSED'}: {bar}" for bar, ok in met.items()), sep="\n")


if __name__ == "__main__":
    main()
