"""Seconds to start every scale and zero point of a supernet from 256 images (median of the rounds)."""

from __future__ import annotations

from common import elastic, interleaved, load, parser, show

from eqnet.data import calibration_inputs


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--space", default="grouped")
    options.add_argument("--rounds", type=int, default=5)
    arguments = options.parse_args()
    rows = []
    for network in ("resnet", "mobilenet"):
        task = load(network, arguments.cache)
        supernet = elastic(task, arguments.space)
        inputs = calibration_inputs(task, "cpu")
        seconds = interleaved(arguments.rounds, lambda: supernet.calibrate(inputs))[0]  # noqa: B023 (called at once)
        quantizers = [q for layer in supernet.elastic.values() for q in (layer.weight_quantizer, layer.input_quantizer)]
        scales = sum(p.numel() for q in quantizers if q is not None for p in q.log_scale.values())
        rows.append({"network": network, "space": arguments.space, "scales": scales, "seconds": seconds})
    show(rows, arguments.json)


if __name__ == "__main__":
    main()
