"""How well CQAP predicts unseen subnets, for each quality that a search could use, beside linear models."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from common import elastic, parser, show

import eqnet
from eqnet.data import calibration_inputs
from eqnet.search.measure import Judge
from eqnet.search.noise import quantization_noise
from eqnet.search.predictor import CQAP, Agreement, LinearBaseline
from eqnet.search.sampling import sample_genes


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--tasks", nargs="+", default=["digits", "fashion-mnist"])
    options.add_argument("--measured", type=int, default=300, help="subnets measured, held-out ones included")
    options.add_argument("--held-out", type=int, default=100)
    options.add_argument("--epochs", type=int, help="of supernet training; the task's own if not given")
    arguments = options.parse_args()
    rows = []
    for name in arguments.tasks:
        task = eqnet.load_task(name, cache=arguments.cache, seed=0)
        supernet = elastic(task, "default")
        epochs = task.epochs if arguments.epochs is None else arguments.epochs
        if epochs:
            with tempfile.TemporaryDirectory() as folder:
                settings = eqnet.Options(epochs, task.batch_size, task.learning_rate)
                for _ in eqnet.train(supernet, task, settings, Path(folder)):
                    pass
        space = supernet.space
        genes = sample_genes(space, arguments.measured, np.random.default_rng(1))
        judge = Judge(supernet, task, task.validation, 512)
        measured = [judge.measure(space.subnet(row)) for row in genes]
        noise = quantization_noise(supernet, calibration_inputs(task, "cpu"))
        split = arguments.measured - arguments.held_out
        qualities = {
            "divergence": [m.divergence for m in measured],
            "loss": [m.loss for m in measured],
            "error": [1 - m.accuracy for m in measured],
        }
        for quality, values in qualities.items():
            y = np.maximum(values, 1e-4 if quality == "error" else 1e-9)
            truth = np.log(y[split:])
            predictor = CQAP(space, noise).fit(genes[:split], y[:split], seed=0)
            assert predictor.additive is not None, "fit was called"
            linear = LinearBaseline.fit(space, genes[:split], y[:split])
            for model, predicted in (
                ("CQAP", predictor.predict(genes[split:])),
                ("its additive part", np.log(predictor.additive.predict(genes[split:]))),
                ("linear", linear.predict(genes[split:])),
            ):
                agreement = Agreement.between(predicted, truth)
                rows.append(
                    {
                        "task": name,
                        "quality": f"ln {quality}",
                        "model": model,
                        "Kendall": round(agreement.kendall_tau, 3),
                        "Pearson": round(agreement.pearson, 3),
                        "RMSE": round(agreement.rmse, 3),
                        "held out": agreement.held_out,
                    }
                )
    show(rows, arguments.json)


if __name__ == "__main__":
    main()
