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
def weight_codes(
    weight: int,
    rows: int,
    cols: int,
    bits: int,
    symmetric: bool,
    group_size: int,
    scale_type: int,
    searched: bool,
    importance: int,
    factor: int,
    order: int,
    codes: int,
    scale: int,
    zero_point: int,
    error: int,
    forms: int,
    threads: int,
    /,
) -> tuple[float, float]:
    """The largest scale of a full range, and the largest weight in its group."""

def quadratic_forms(x: int, rows: int, cols: int, matrix: int, forms: int, threads: int, /) -> None: ...
def isa() -> str:
    """The instruction set of the kernels, as in EQNET_CPU; raises ValueError if that asks for what is not there."""

def crc32(data: int, size: int, /) -> int:
    """What ``zlib.crc32`` gives, several times as fast; other threads run meanwhile."""

def panel_sizes(rows: int, cols: int, group_size: int, bits: int, /) -> tuple[int, int]:
    """Bytes of the codes, and number of scales, of a weight in panels."""

def fill_panels(
    rows: int,
    cols: int,
    group_size: int,
    bits: int,
    codes: int,
    scale: int,
    scale_bytes: int,
    scale_per_row: bool,
    zero_point: int,
    out_codes: int,
    out_scales: int,
    out_zeros: int,
    threads: int,
    /,
) -> None: ...
def linear(
    rows: int,
    cols: int,
    group_size: int,
    bits: int,
    codes: int,
    scales: int,
    scale_type: int,
    zeros: int,
    x: int,
    y: int,
    element: int,
    samples: int,
    bias: int,
    compute: int,
    input_scale: float,
    input_zero_point: int,
    qmin: int,
    qmax: int,
    correction: int,
    threads: int,
    /,
) -> None: ...
def dequantize_panels(
    rows: int,
    cols: int,
    group_size: int,
    bits: int,
    codes: int,
    scales: int,
    scale_type: int,
    zeros: int,
    out: int,
    threads: int,
    /,
) -> None: ...
def gather_rows(
    rows: int,
    cols: int,
    group_size: int,
    bits: int,
    codes: int,
    scale: int,
    scale_type: int,
    scale_per_row: bool,
    zero_point: int,
    indices: int,
    count: int,
    out: int,
    threads: int,
    /,
) -> bool:
    """False if an index is none of a row; then nothing is written."""

class Projection:
    """Panels with a bias; see cpp/include/eqnet/decoder.h for all that follows."""

    def __init__(
        self,
        rows: int,
        cols: int,
        group_size: int,
        bits: int,
        codes: int,
        scales: int,
        scale_type: int,
        zeros: int,
        bias: int,
        /,
    ) -> None: ...

class Rotation:
    def __init__(self, frequencies: list[float], scale: float, interleaved: bool) -> None: ...

class DecoderBlock:
    def __init__(
        self,
        *,
        attention_norm: int,
        query_norm: int,
        key_norm: int,
        after_attention: int,
        mlp_norm: int,
        after_mlp: int,
        query: Projection,
        key: Projection,
        value: Projection,
        output: Projection,
        gate: Projection,
        up: Projection,
        down: Projection,
        rotation: int,
        window: int,
    ) -> None: ...

class DecoderSession:
    @property
    def length(self) -> int: ...
    @property
    def position(self) -> int: ...

class Decoder:
    def __init__(
        self,
        *,
        hidden: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        intermediate: int,
        activation: int,
        norm_epsilon: float,
        attention_scale: float,
        attention_softcap: float,
        logit_softcap: float,
        rotations: list[Rotation],
        blocks: list[DecoderBlock],
        norm: int,
        head: Projection,
    ) -> None: ...
    def session(self, length: int, /) -> DecoderSession: ...
    def feed(
        self, session: DecoderSession, x: int, rows: int, all: bool, logits: int, compute: int, threads: int, /
    ) -> None:
        """``all`` says whether logits are wanted for each row; ``x`` is overwritten."""

def read_memory(memory: int, nbytes: int, repeats: int, threads: int, /) -> None:
    """Reads memory that is aligned to 64 bytes, over and over."""

def multiply_int8(repeats: int, threads: int, /) -> float:
    """Sums of products in registers; returns how many operations that was."""

def multiply_float(repeats: int, threads: int, /) -> float:
    """The same in float32."""

class Program:
    """See cpp/include/eqnet/program.h; paddings are top, left, bottom and right, bounds the least and the greatest."""

    def __init__(self, in_channels: int, isa: str = "") -> None: ...
    def convolution(
        self,
        x: int,
        *,
        weight: int,
        scale: int,
        group_size: int,
        bias: int,
        channels: tuple[int, int],
        groups: int,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        dilation: tuple[int, int],
        padding: tuple[int, int, int, int],
        input_scale: float,
        input_zero: int,
        levels: int,
        residual: int,
        bounds: tuple[float, float],
    ) -> int: ...
    def add(self, a: int, b: int, bounds: tuple[float, float]) -> int: ...
    def bound(self, x: int, bounds: tuple[float, float]) -> int: ...
    def pool(
        self,
        x: int,
        *,
        maximum: bool,
        whole_image: bool,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int, int, int],
        count_padding: bool,
        bounds: tuple[float, float],
    ) -> int: ...
    def concatenate(self, values: list[int]) -> int: ...
    def flatten(self, x: int) -> int: ...
    def finish(self, result: int) -> None: ...
    def result_size(self, height: int, width: int) -> tuple[int, int, int]: ...
    def arena_bytes(self, height: int, width: int) -> int: ...
    def run(self, x: int, images: int, height: int, width: int, y: int, threads: int) -> None: ...

def read_program(data: bytes, isa: str = "") -> Program:
    """A program from its bytes; raises ValueError that says what is wrong with them."""
