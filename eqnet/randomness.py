"""Seeding what draws from global generators, without a trace outside."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(*seeds: int) -> Iterator[None]:
    """The global generators of torch, NumPy and ``random`` follow ``seeds`` inside, and are as before afterwards."""
    own = np.random.default_rng(seeds)
    before = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        random.seed(int(own.integers(2**32)))
        np.random.seed(int(own.integers(2**32)))
        torch.manual_seed(int(own.integers(2**62)))
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
