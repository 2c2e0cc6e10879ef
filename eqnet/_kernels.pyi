# Addresses are those of contiguous float32 memory; see cpp/include/eqnet/ for shapes.

def fake_quantize(
    x: int, scale: int, zero_point: int, y: int, rows: int, cols: int, group_size: int, qmin: float, qmax: float, /
) -> None: ...
def fake_quantize_backward(
    grad_y: int,
    x: int,
    scale: int,
    zero_point: int,
    grad_x: int,
    grad_scale: int,
    grad_zero_point: int,
    rows: int,
    cols: int,
    group_size: int,
    qmin: float,
    qmax: float,
    /,
) -> None: ...
def range_search(
    x: int,
    count: int,
    scale: int,
    zero_point: int,
    rows: int,
    cols: int,
    group_size: int,
    qmin: float,
    qmax: float,
    p: float,
    /,
) -> None: ...

def isa() -> str:
    """The instruction set of the kernels, as in EQNET_CPU; raises ValueError if that asks for what is not there."""
