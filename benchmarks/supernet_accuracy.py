"""The trained supernet at every width and form; with ``--alone``, one network trained for each width instead.

Both start from the same fp32 weights, trained on all 60,000 images, and take the same number of steps.
``--without wdr`` and ``--without gpg`` leave out one of the losses. Figures are means over the seeds, of the 10,000
test images.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import replace

from common import elastic, layer_format, load_whole, parser, show

from eqnet import Options, Supernet, Task, train
from eqnet.search.measure import Judge

WIDTHS = (2, 3, 4, 8)
FORMS = [(g, s) for g in ("tensor", "channel", "group32") for s in (True, False)]


def trained(task: Task, space: str, options: Options) -> Supernet:
    """A supernet, trained; progress goes to standard error."""
    supernet = elastic(task, space)
    for progress in train(supernet, task, options):
        if progress.step % 50 == 0 or progress.step == progress.total:
            print(f"\r{space}: step {progress.step} of {progress.total}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return supernet


def accuracies(supernet: Supernet, task: Task, forms: list[tuple[str, bool]]) -> dict[int, dict[str, float]]:
    """Test accuracy in percent of the uniform network of each width that the supernet has, in each form."""
    judge = Judge(supernet, task, task.test)
    inner = next(tied for tied in supernet.space.sets if not tied.edge)
    found: dict[int, dict[str, float]] = {}
    for bits in sorted({choice.weight.bits for choice in inner.choices} & set(WIDTHS)):
        subnets = {f"{g} {'sym' if s else 'asym'}": supernet.space.nearest(layer_format(bits, g, s)) for g, s in forms}
        found[bits] = {form: 100 * judge.accuracy(subnet) for form, subnet in subnets.items()}
    return found


def alone(task: Task, options: Options) -> dict[int, dict[str, float]]:
    """One network trained for each width alone: one subnet a step, on the labels."""
    found: dict[int, dict[str, float]] = {}
    for bits in WIDTHS:
        single = trained(task, f"w={bits}:channel:sym a={bits}:asym", replace(options, sandwich=(("any", 1.0),)))
        found |= accuracies(single, task, [("channel", True)])
    return found


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--network", choices=["resnet", "mobilenet"], default="resnet")
    options.add_argument("--epochs", type=int, default=2)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--without", choices=["wdr", "gpg"], nargs="*", default=[])
    options.add_argument("--alone", action="store_true", help="train one network for each width instead of a supernet")
    arguments = options.parse_args()
    task = load_whole(arguments.network, arguments.cache)
    runs = []
    for seed in arguments.seeds:
        settings = Options(
            epochs=arguments.epochs,
            batch_size=task.batch_size,
            learning_rate=task.learning_rate,
            wdr=0.0 if "wdr" in arguments.without else 1.0,
            guidance=0.0 if "gpg" in arguments.without else 0.5,
            seed=seed,
        )
        if arguments.alone:
            runs.append(alone(task, settings))
        else:
            runs.append(accuracies(trained(task, "grouped", settings), task, FORMS))
    rows = [
        {"bits": bits, **{form: round(statistics.mean(run[bits][form] for run in runs), 2) for form in runs[0][bits]}}
        for bits in runs[0]
    ]
    show(rows, arguments.json)


if __name__ == "__main__":
    main()
