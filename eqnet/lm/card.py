"""The model card of a packed language model: README.md, as hubs show it beside the files."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version

from eqnet.lm.recipe import Recipe
from eqnet.lm.structure import structure_of
from eqnet.packed.model import PackedModel

_FLOAT_BITS = 16
"""Of what the size is compared with."""


def card(packed: PackedModel, recipe: Recipe) -> str:
    """Markdown, with the header that hubs read.

    Args:
        packed: a causal language model.
        recipe: of it.
    """
    head = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags:",
        "- eqnet",
        "- quantized",
        "---",
        "",
        f"# {recipe.model}, {packed.bpw:.2f} bits per weight",
        "",
        f"The weights of {recipe.model}, quantized by eqnet {version('eqnet')}: each layer in the format in which the "
        "model minds it least."
        if recipe.budgets
        else f"The weights of {recipe.model}, quantized by eqnet {version('eqnet')}.",
    ]
    return "\n".join([*head, *_figures(packed, recipe), *_recipe(recipe), *_formats(packed), *_running()]) + "\n"


def _figures(packed: PackedModel, recipe: Recipe) -> list[str]:
    weights = {id(layer.codes): layer.weight for layer in packed.layers.values()}.values()
    others = packed.nbytes - sum(weight.nbytes for weight in weights)
    unpacked = sum(weight.rows * weight.cols for weight in weights) * _FLOAT_BITS // 8 + others // 2
    rows = [
        ("stored bits per weight, scales and zero points counted", f"{packed.bpw:.3f}"),
        ("size of the tensors", f"{packed.nbytes / 1e6:.1f} MB ({unpacked / 1e6:.1f} MB in 16 bits)"),
    ]
    for part, value in recipe.perplexity.items():
        exact = recipe.float_perplexity.get(part)
        beside = f" ({exact:.3f} in floating point)" if exact is not None else ""
        rows.append((f"perplexity, {part} text", f"{value:.3f}{beside}"))
    if recipe.divergence is not None:
        rows.append(("divergence from the model in floating point", f"{recipe.divergence:.5f} nats a token"))
    return ["", "| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)]


def _recipe(recipe: Recipe) -> list[str]:
    text = ", ".join(recipe.text) or "the text that comes with eqnet"
    lines = [f"- codes: `{recipe.method}`", f"- text: {text}; the perplexities are of parts that were held out"]
    if recipe.budgets:
        lines.append(f"- searched for: {' and '.join(f'`{budget}`' for budget in recipe.budgets)}")
    return ["", "## Recipe", "", *lines]


def _formats(packed: PackedModel) -> list[str]:
    """How often each format occurs among the layers of one name, over all blocks."""
    blocks = structure_of(packed.model).blocks
    found: dict[str, Counter[str]] = {}
    for name, layer in packed.layers.items():
        block = next((block for block in blocks if name.startswith(f"{block}.")), None)
        role = name.removeprefix(f"{block}.") if block is not None else name
        found.setdefault(role, Counter())[str(layer.weight_format)] += 1
    rows = (
        f"| `{role}` | {', '.join(f'{count} × `{fmt}`' for fmt, count in sorted(counts.items()))} |"
        for role, counts in found.items()
    )
    return ["", "## Where the bits went", "", "| layers | formats |", "| --- | --- |", *rows]


def _running() -> list[str]:
    return [
        "",
        "## To run it",
        "",
        "```python",
        "import eqnet  # teaches transformers to load it",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'model = AutoModelForCausalLM.from_pretrained("FOLDER")',
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
        "```",
        "",
        "```",
        'eqnet generate FOLDER "The best way to"',
        "eqnet bench FOLDER",
        "```",
    ]
