"""Where the learned scales and zero points start: the range of least p-norm error (p = 2.4)."""

from __future__ import annotations

import torch
from torch import Tensor

from eqnet import _kernels
from eqnet.errors import ModelError
from eqnet.formats import Format

NORM = 2.4
"""The norm of EQ-Net (arXiv 2308.07650, sec. 4.1), between the squared error and the largest one."""

BINS = 4096
"""Bins of a histogram: 16 for each code of the widest format."""


class Histogram:
    """How often each value occurs in everything that was seen, over a range that grows as needed.

    Attributes:
        low, high: the smallest and largest value seen, and 0.
        counts: float32 [BINS], over equal parts of [low, high].
    """

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self.counts = torch.zeros(BINS, dtype=torch.float32)

    def add(self, values: Tensor) -> None:
        """Counts ``values``, of any shape.

        Raises:
            ModelError: a value is inf or NaN.
        """
        values = values.detach().float().flatten()
        if values.numel() == 0:
            return
        low, high = (v.item() for v in torch.aminmax(values))
        if not (abs(low) < float("inf") and abs(high) < float("inf")):
            raise ModelError("values are inf or NaN")
        if low < self.low or high > self.high:
            counts, centers = self.counts, self.centers
            self.low, self.high = min(low, self.low), max(high, self.high)
            self.counts = torch.histogram(centers, BINS, range=self._range, weight=counts).hist
        self.counts += torch.histc(values, BINS, *self._range).to(self.counts.device)

    @property
    def _range(self) -> tuple[float, float]:
        return self.low, self.high if self.high > self.low else self.low + 1.0

    @property
    def centers(self) -> Tensor:
        """The middle of each bin, float32 [BINS]; the outermost bins stand for the ends of the range."""
        low, high = self._range
        edges = torch.linspace(low, high, BINS + 1, dtype=torch.float32)
        centers = (edges[1:] + edges[:-1]) / 2
        centers[0], centers[-1] = low, high
        return centers


def search_range(x: Tensor, fmt: Format, counts: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The scale and zero point, of each tensor, channel or group, that lose least to ``fmt``.

    Minimises the sum of ``|x - dequantize(quantize(x))|^2.4`` over fractions of the full range and, for
    asymmetric formats, over the zero points near it.

    Args:
        x: finite, float32 [rows, cols].
        fmt: the format to fit.
        counts: how often each element of ``x`` occurs, [rows, cols]; once each if None.

    Returns:
        scale (positive) and zero point (integers), float32 ``fmt.scale_shape(rows, cols)``.
    """
    rows, cols = x.shape
    shape = fmt.scale_shape(rows, cols)
    device = x.device
    x = x.detach().to("cpu", torch.float32).reshape(shape[0], -1)
    if shape[1] == 1 and x.shape[1] > 2 * BINS and counts is None:
        x, counts = _histograms(x)
    x = x.contiguous()
    counts = counts.detach().to("cpu", torch.float32).reshape(x.shape).contiguous() if counts is not None else None
    scale, zero_point = (torch.empty(shape, dtype=torch.float32) for _ in range(2))
    _kernels.range_search(
        x.data_ptr(),
        counts.data_ptr() if counts is not None else 0,
        scale.data_ptr(),
        zero_point.data_ptr(),
        x.shape[0],
        x.shape[1],
        fmt.group_size or x.shape[1],
        fmt.qmin,
        fmt.qmax,
        NORM,
    )
    return scale.to(device), zero_point.to(device)


def _histograms(x: Tensor) -> tuple[Tensor, Tensor]:
    """[rows, many] → values and counts, each [rows, BINS]."""
    rows = []
    for row in x:
        histogram = Histogram()
        histogram.add(row)
        rows.append((histogram.centers, histogram.counts))
    values, counts = zip(*rows, strict=True)
    return torch.stack(values), torch.stack(counts)
