"""The same work for each of many layers, several of them at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

import torch

Report = Callable[[str, int, int], None]
T = TypeVar("T")
R = TypeVar("R")


def on_threads(work: Callable[[T], R], items: Sequence[T], stage: str, report: Report | None = None) -> list[R]:
    """What ``work`` gives for each item, in their order; each is done by one thread, as many at once as torch may use.

    Layers are many, and what is done to one of them is in part too little to be divided among threads. What an item
    gives does not depend on how many threads there are.

    Args:
        work: called from other threads.
        items: most expensive first, ideally.
        stage: for ``report``.
        report: told (stage, done, total), from this thread.
    """
    threads = torch.get_num_threads()
    if report is not None:
        report(stage, 0, len(items))
    torch.set_num_threads(1)  # of each worker
    try:
        with ThreadPoolExecutor(threads) as pool:
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
    finally:
        torch.set_num_threads(threads)
