"""The fused fake-quantize op, forward and backward, beside torch's learnable ones: ratios in one run."""

from __future__ import annotations

import torch
from common import interleaved, parser, show

from eqnet.ops import fake_quantize

SIZES = (1 << 20, 1 << 22, 1 << 24)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--rounds", type=int, default=15)
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for size in SIZES:
        for name, channels in (("per tensor", 1), ("per channel", 256)):
            x = torch.randn(channels, size // channels)
            grad = torch.randn_like(x)
            scale = torch.full((channels,), 0.1)
            zero = torch.zeros(channels)

            def ours(x: torch.Tensor = x, scale: torch.Tensor = scale, grad: torch.Tensor = grad) -> None:
                leaf, s = x.detach().requires_grad_(), scale[:, None].clone().requires_grad_()
                z = torch.zeros_like(s, requires_grad=True)
                fake_quantize(leaf, s, z, leaf.shape[1], -8, 7).backward(grad)

            def theirs(
                x: torch.Tensor = x, scale: torch.Tensor = scale, zero: torch.Tensor = zero, grad: torch.Tensor = grad
            ) -> None:
                leaf, s = x.detach().requires_grad_(), scale.clone().requires_grad_()
                z = zero.clone().requires_grad_()
                if len(s) == 1:
                    out = torch._fake_quantize_learnable_per_tensor_affine(leaf, s, z, -8, 7, 1.0)
                else:
                    out = torch._fake_quantize_learnable_per_channel_affine(leaf, s, z, 0, -8, 7, 1.0)
                out.backward(grad)

            mine, torchs = interleaved(arguments.rounds, ours, theirs)
            rows.append(
                {
                    "elements": size,
                    "granularity": name,
                    "eqnet ms": mine * 1e3,
                    "torch ms": torchs * 1e3,
                    "times faster": torchs / mine,
                }
            )
    show(rows, arguments.json)


if __name__ == "__main__":
    main()
