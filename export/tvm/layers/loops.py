"""Loops for functions that TVM's importer and tensor expressions leave without an order: vectors, threads.

Each stage of a function gets its outer dimensions shared among threads and the last one innermost, where the compiler
makes vectors of it; sums of products take several results at a time.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.s_tir.dlight.analysis import normalize_prim_func
from tvm.s_tir.dlight.base import ScheduleRule

PARALLEL_ELEMENTS = 1 << 15
"""Results of a stage from which on threads save more than they cost; symbols count as one."""


class Loops(ScheduleRule):  # type: ignore[misc]  # TVM has no type information
    """Gives every stage of a function its loops."""

    def apply(self, func: Any, target: Any, _: bool) -> Any:
        """The schedule; None if the function cannot be taken apart."""
        if not isinstance(func, tirx.PrimFunc):
            return None
        schedule = s_tir.Schedule(func)
        stages = normalize_prim_func(schedule)
        if stages is None:
            return None
        for stage in stages:
            _order(schedule, stage)
        return schedule


def _order(schedule: Any, stage: Any) -> None:
    kinds, loops = stage.dom_kind(), schedule.get_loops(stage.block_rv)
    if len(kinds) != len(loops) or set(kinds) - {"S", "R"}:
        return
    results = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == "S"]
    summed = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == "R"]
    if not results:
        return
    *outer, inner = results
    if summed and outer and _extent(schedule, inner) != 1:
        schedule.reorder(*outer, *summed, inner)
        schedule.decompose_reduction(stage.block_rv, summed[0])
    if outer:
        elements = 1
        for loop in results:
            elements *= _extent(schedule, loop) or 1
        fused = schedule.fuse(*outer)
        if elements >= PARALLEL_ELEMENTS:
            schedule.parallel(fused)


def _extent(schedule: Any, loop: Any) -> int | None:
    """Steps of a loop; None if they are a symbol."""
    extent = schedule.get(loop).extent
    return int(extent.value) if isinstance(extent, tvm.tirx.IntImm) else None
