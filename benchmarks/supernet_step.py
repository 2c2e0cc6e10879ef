"""One supernet step (WDR, three subnets, weights and activations quantized) over three plain fp32 steps.

The supernet's convolutions compute channels-last on a CPU; plain PyTorch is timed both as it comes and so too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from common import elastic, fp32_step, interleaved, load, parser, show
from torch import nn
from torch.nn import functional as F

from eqnet.data import batches, in_order
from eqnet.training import Options, make_optimizer, sandwich_step


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--network", choices=["resnet", "mobilenet"], default="resnet")
    options.add_argument("--space", default="default")
    options.add_argument("--rounds", type=int, default=20)
    arguments = options.parse_args()
    task = load(arguments.network, arguments.cache)
    supernet = elastic(task, arguments.space).train()
    plain, arranged = (copy.deepcopy(task.model).train() for _ in range(2))
    arranged.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    settings = Options()
    optimizer = make_optimizer(supernet, settings)
    x, y = next(batches(task.train, in_order(task.train, 128, 128)))
    rng = np.random.default_rng(0)

    def three_fp32(model: nn.Module) -> Callable[[], None]:
        own = torch.optim.Adam(model.parameters(), fused=True)

        def steps() -> None:
            for _ in range(3):
                fp32_step(model, own, x, y)

        return steps

    def one_supernet() -> None:
        optimizer.zero_grad()
        sandwich_step(supernet, x, y, F.cross_entropy, rng)
        torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], settings.clip)
        optimizer.step()

    three, last, one = interleaved(arguments.rounds, three_fp32(plain), three_fp32(arranged), one_supernet)
    row = {
        "network": arguments.network,
        "3 fp32 steps ms": three * 1e3,
        "supernet step ms": one * 1e3,
        "ratio": one / three,
        "3 channels-last fp32 steps ms": last * 1e3,
        "ratio to these": one / last,
    }
    show([row], arguments.json)


if __name__ == "__main__":
    main()
