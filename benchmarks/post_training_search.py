"""Searching a calibrated, untrained network: test accuracy at each budget, activations at 8 bits.

Beside it stand the figures of the integer program of Sony's Model Compression Toolkit on the same two networks, at
3.5 s for each search.
"""

from __future__ import annotations

import sys
import time

from common import elastic, load_whole, parser, show

from eqnet.search.budget import Budget
from eqnet.search.driver import Settings, search

PEER = {
    "resnet": {2.5: 88.0, 3: 91.4, 4: 91.2, 6: 91.7},
    "mobilenet": {2.5: 85.0, 3: 89.1, 4: 91.3, 6: 91.5},
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--networks", nargs="+", choices=list(PEER), default=list(PEER))
    options.add_argument("--space", default="w=2-8:channel:sym,asym a=8:sym,asym edge=none")
    options.add_argument("--budgets", nargs="+", type=float, default=[2.5, 3, 4, 6], help="mean code bits")
    options.add_argument("--samples", type=int, default=40)
    arguments = options.parse_args()
    rows = []
    for network in arguments.networks:
        task = load_whole(network, arguments.cache)
        for bits, peer in ((b, PEER[network].get(b)) for b in arguments.budgets):
            start = time.perf_counter()
            supernet = elastic(task, arguments.space)
            settings = Settings(samples=arguments.samples, validation=256, rounds=3, finalists=2, uniform=False)
            data = search(supernet, task, [Budget.parse(f"{bits}bit")], settings)
            result = data.result
            rows.append(
                {
                    "network": network,
                    "budget": f"{bits} bits",
                    "code bits": result.cost.code_bits,
                    "test %": round(100 * (result.accuracy.test or 0.0), 2),
                    "peer %": peer,
                    "fp32 %": round(100 * (result.accuracy.fp32_test or 0.0), 2),
                    "seconds": round(time.perf_counter() - start, 1),
                    "of them searching": round(sum(data.seconds[s] for s in ("measure", "predict", "search")), 1),
                }
            )
            print(rows[-1], file=sys.stderr)
    show(rows, arguments.json)


if __name__ == "__main__":
    main()
