"""The same work for each of many layers, or windows of text, several of them at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

import torch

from eqnet.threads import threads

Report = Callable[[str, int, int], None]
T = TypeVar("T")
R = TypeVar("R")


def on_threads(work: Callable[[T], R], items: Sequence[T], stage: str = "", report: Report | None = None) -> list[R]:
    """What ``work`` gives for each item, in their order; as many at once as torch may use threads, which they share.

    What is done to one layer is in part too little to be divided among threads, and threads that work on one window
    wait for each other at every operation, the more the busier the machine is.

    Args:
        work: called from other threads.
        items: most expensive first, ideally.
        stage: for ``report``.
        report: told (stage, done, total), from this thread.
    """
    given = torch.get_num_threads()
    workers = max(1, min(given, len(items)))
    if report is not None:
        report(stage, 0, len(items))
    with threads(given // workers), ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(work, item) for item in items]
        try:
            for done, future in enumerate(as_completed(running), start=1):
                future.result()
                if report is not None:
                    report(stage, done, len(items))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        return [future.result() for future in running]
