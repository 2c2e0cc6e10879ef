"""The trained supernet at every width and form, beside one network trained for each width alone; and the ablation.

Both start from the same fp32 weights and take the same number of steps. ``--without wdr`` and ``--without gpg`` leave
out one of the losses.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator

from common import elastic, layer_format, load, parser, show

from eqnet import Options, Supernet, Task, train
from eqnet.search.measure import Judge

FORMS = [(g, s) for g in ("tensor", "channel", "group32") for s in (True, False)]


def trained(task: Task, space: str, options: Options) -> Supernet:
    """A supernet, trained; progress goes to standard error."""
    supernet = elastic(task, space)
    for progress in train(supernet, task, options):
        if progress.step % 50 == 0 or progress.step == progress.total:
            print(f"\r{space}: step {progress.step} of {progress.total}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return supernet


def accuracies(supernet: Supernet, task: Task, bits: int) -> Iterator[tuple[str, float]]:
    """Test accuracy in percent of the uniform network of this width in each form."""
    judge = Judge(supernet, task, task.test)
    for granularity, symmetric in FORMS:
        subnet = supernet.space.nearest(layer_format(bits, granularity, symmetric))
        yield f"{granularity} {'sym' if symmetric else 'asym'}", 100 * judge.measure(subnet).accuracy


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--network", choices=["resnet", "mobilenet"], default="resnet")
    options.add_argument("--epochs", type=int, default=2)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--widths", type=int, nargs="+", default=[2, 3, 4, 8])
    options.add_argument("--without", choices=["wdr", "gpg"], nargs="*", default=[])
    options.add_argument("--alone", action="store_true", help="also train one network for each width alone")
    arguments = options.parse_args()
    task = load(arguments.network, arguments.cache)
    found: dict[int, list[dict[str, float]]] = {bits: [] for bits in arguments.widths}
    alone: dict[int, list[float]] = {bits: [] for bits in arguments.widths}
    for seed in arguments.seeds:
        settings = Options(
            epochs=arguments.epochs,
            batch_size=task.batch_size,
            learning_rate=task.learning_rate,
            wdr=0.0 if "wdr" in arguments.without else 1.0,
            guidance=0.0 if "gpg" in arguments.without else 0.5,
            seed=seed,
        )
        supernet = trained(task, "grouped", settings)
        for bits in arguments.widths:
            found[bits].append(dict(accuracies(supernet, task, bits)))
        if arguments.alone:
            one = Options(**{**settings.__dict__, "sandwich": ("any",)})
            for bits in arguments.widths:
                single = trained(task, f"w={bits}:channel:sym a={bits}:asym", one)
                alone[bits].append(dict(accuracies(single, task, bits))["channel sym"])
    rows = []
    for bits in arguments.widths:
        row: dict[str, object] = {"bits": bits}
        for form in found[bits][0]:
            row[form] = round(statistics.mean(run[form] for run in found[bits]), 2)
        if alone[bits]:
            row["alone (channel sym)"] = round(statistics.mean(alone[bits]), 2)
        rows.append(row)
    show(rows, arguments.json)


if __name__ == "__main__":
    main()
