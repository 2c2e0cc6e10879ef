"""``python -m tests.fuzz --seconds 600``: damaged input until something goes wrong, or the time is over.

Every case follows from the seed and its number; a finding says how to see it again. If the process itself dies, the
file that is named at the start has the case.
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from tests.fuzz import decoders, loader, models, unpackers

FUZZERS: dict[str, Callable[[random.Random, Path], str]] = {
    "decoders": decoders.case,
    "loader": loader.case,
    "models": models.case,
    "unpackers": unpackers.case,
}
SLOW = 10.0
"""Seconds after which a case ends the process: input of a few kilobytes must not hold a program up."""

FIRST = 120.0
"""The same of the first case, which also makes what is damaged."""


def main() -> int:
    """Runs the fuzzers in turn; returns 1 if there was a finding."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the time of day if not given")
    parser.add_argument("--only", choices=FUZZERS, help="one of the fuzzers")
    parser.add_argument("--case", type=int, help="one case of it")
    options = parser.parse_args()
    names = [options.only] if options.only else list(FUZZERS)
    faulthandler.enable()
    torch.set_num_threads(1)
    outcomes: Counter[str] = Counter()
    findings = 0
    with TemporaryDirectory(prefix="fuzz-") as scratch, Path(scratch, "case.txt").open("w") as log:
        print(f"seed {options.seed}; the case under way is in {log.name}", flush=True)
        stop = time.monotonic() + options.seconds
        number = options.case or 0
        while time.monotonic() < stop and findings < 10:
            for name in names:
                log.seek(0)
                log.write(f"--only {name} --seed {options.seed} --case {number}\n")
                log.flush()
                faulthandler.dump_traceback_later(FIRST if number == (options.case or 0) else SLOW, exit=True)
                try:
                    draw = random.Random(f"{name} {options.seed} {number}")
                    outcomes[f"{name}: {FUZZERS[name](draw, Path(scratch, 'artifact'))}"] += 1
                except Exception:
                    findings += 1
                    traceback.print_exc()
                    print(f"python -m tests.fuzz --only {name} --seed {options.seed} --case {number}\n", flush=True)
            if options.case is not None:
                break
            number += 1
    faulthandler.cancel_dump_traceback_later()
    print(", ".join(f"{outcome} {count}" for outcome, count in sorted(outcomes.items())), f"findings: {findings}")
    return int(findings > 0)


if __name__ == "__main__":
    sys.exit(main())
