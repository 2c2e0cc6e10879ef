"""Tests of ``eqnet.search.report``."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from eqnet.errors import EqnetError, InputError
from eqnet.formats import MAX_BITS, MIN_BITS
from eqnet.search.report import write_report
from eqnet.search.report.figures.bits import draw_bits
from eqnet.search.report.figures.blocks import draw_blocks
from eqnet.search.report.figures.front import draw_front
from eqnet.search.report.figures.sensitivity import draw_sensitivity
from eqnet.search.report.figures.sizes import sizes_of
from eqnet.search.report.inline import inlined
from eqnet.search.report.page import headline
from eqnet.search.report.style import BITS_COLOURS, bands, styled, write
from eqnet.search.report.units import duration, percent, points, power_of_ten, prefixed, shortened
from eqnet.search.result import ReportData, Size
from tests.search.report_data import make_report_data

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})
HOSTILE = ["</text><script>alert(1)</script>", 'a"onload="x', "$\\frac{1}{2}$ & 層\n\x00", "{{ 7 * 7 }}", "url(#a)"]


class Page(HTMLParser):
    """Checks that every element is closed in turn, and collects what the page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(key, value or "") for key, value in attrs]
        self.ids.update(value or "" for key, value in attrs if key == "id")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


OF_A_TASK = {"front", "bits", "sensitivity", "predictor", "convergence", "sizes"}
"""Figures of a small network that is judged by its accuracy."""


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report on five layers."""
    folder = tmp_path_factory.mktemp("five")
    assert write_report(make_report_data(5), folder) == folder / "report.html"
    return folder


def test_the_page_and_every_figure_are_written(five: Path) -> None:
    expected = {"report.html"} | {f"figures/{name}.{e}" for name in OF_A_TASK for e in ("png", "svg")}
    written = files_of(five)
    assert set(written) == expected
    assert all(data.startswith(b"\x89PNG") for name, data in written.items() if name.endswith(".png"))
    for name, data in written.items():
        if name.endswith(".svg"):
            ET.fromstring(data)


def test_the_page_says_what_was_found(five: Path) -> None:
    data = make_report_data(5)
    page = Page((five / "report.html").read_text())
    words = " ".join(page.words)
    assert headline(data.result) in words
    assert data.command in words
    assert page.tags["svg"] == len(OF_A_TASK)
    for layer in data.result.layers:
        assert layer.name in words
        assert str(layer.weight_format) in words
    for text in ("Kendall τ 0.873", "RMSE 0.142", "n 40", "61.5\N{NO-BREAK SPACE}s", "3.12.3", "uniform 8"):
        assert text in words


def test_the_page_needs_nothing_else(five: Path) -> None:
    text = (five / "report.html").read_text()
    page = Page(text)
    assert not re.search(r"https?:|//|@import|src=", re.sub(r"<pre>.*?</pre>", "", text, flags=re.DOTALL))
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(page.tags)
    references = [value for key, value in page.attributes if key in ("href", "xlink:href")]
    references += [ref for _, value in page.attributes for ref in re.findall(r"url\((.*?)\)", value)]
    assert references
    assert all(ref.startswith("#") and page.ids[ref[1:]] == 1 for ref in references)
    assert max(page.ids.values()) == 1


def test_figures_take_the_colours_of_the_page(five: Path) -> None:
    text = (five / "report.html").read_text()
    used = set(re.findall(r"var\(--(\w+)", text))
    defined = re.findall(r"--(\w+):", text)
    assert all(defined.count(name) == 2 for name in used), "once for light, once for dark"


def test_the_same_data_writes_the_same_bytes(five: Path, tmp_path: Path) -> None:
    import matplotlib as mpl

    # Asking for the backend would choose one, and import pyplot for it.
    before = {key: mpl.rcParams[key] for key in mpl.rcParams if key != "backend"}
    had_pyplot = "matplotlib.pyplot" in sys.modules
    with mpl.rc_context({"font.size": 20, "svg.hashsalt": "other", "text.color": "red"}):
        write_report(make_report_data(5), tmp_path)
    assert files_of(tmp_path) == files_of(five)
    assert {key: mpl.rcParams[key] for key in before} == before, "the user's own settings stay as they were"
    assert ("matplotlib.pyplot" in sys.modules) == had_pyplot


def texts_of(figure: Figure) -> list[str]:
    with styled():
        svg = ET.fromstring(write(figure, "svg"))
    return ["".join(e.itertext()) for e in svg.iter() if e.tag.endswith("}text")]


UNLIKE = [f"stage{i % 7}.some.long.part.of.unit{i}.conv" for i in range(60)]
"""Names of layers that are no list of like blocks."""


@pytest.mark.parametrize(
    ("draw", "names"),
    [(draw_bits, None), (draw_bits, UNLIKE), (draw_sensitivity, UNLIKE)],
    ids=["bits", "bits-unlike", "sensitivity-unlike"],
)
def test_sixty_layers_stay_apart(draw: Callable[[ReportData], Figure], names: list[str] | None) -> None:
    drawn = [text for text in texts_of(draw(make_report_data(60, names=names))) if "." in text]
    assert len(drawn) == len(set(drawn)) == 60
    assert max(map(len, drawn)) <= 32


def test_sensitivities_of_like_blocks_are_in_rows_by_place() -> None:
    data = make_report_data(60)
    outside = replace(data.result.layers[0], name="embeddings")
    figure = draw_sensitivity(replace(data, result=replace(data.result, layers=(outside, *data.result.layers))))
    columns = {ax.get_title(loc="left"): [label.get_text() for label in ax.get_xticklabels()] for ax in figure.axes}
    places = ["attention.self.query_key_value", "attention.output.dense", "intermediate.dense", "output.dense"]
    assert columns == {"": ["embeddings"], **{place: [str(i) for i in range(15)] for place in places}}


def test_places_that_say_the_same_share_a_row() -> None:
    data = make_report_data(60)
    first, *_ = data.result.layers
    layers = tuple(
        replace(layer, weight_format=first.weight_format, sensitivity=first.sensitivity)
        if "attention" in layer.name
        else layer
        for layer in data.result.layers
    )
    figure = draw_sensitivity(replace(data, result=replace(data.result, layers=layers)))
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == ["attention.self.query_key_value, attention.output.dense", "intermediate.dense", "output.dense"]


@pytest.mark.parametrize(("count", "drawn"), [(9, ["predicted", "measured"]), (1, ["predicted"])])
def test_the_front_is_drawn_as_predicted_and_where_it_was_measured(count: int, drawn: list[str]) -> None:
    data = make_report_data(5)
    front = [replace(p, validation=p.validation if i < count else None) for i, p in enumerate(data.result.front)]
    axes = draw_front(replace(data, result=replace(data.result, front=tuple(front)))).axes[0]
    lines = {str(line.get_label()): line for line in axes.get_lines() if "front" in str(line.get_label())}
    assert list(lines) == [f"Pareto front, {what}" for what in drawn]
    bits, percents = lines["Pareto front, predicted"].get_data()
    assert list(bits) == sorted(p.cost.code_bits for p in front)
    assert list(percents) == pytest.approx(sorted(100 * p.predicted_accuracy for p in front))


def test_one_layer_and_missing_values(tmp_path: Path, five: Path) -> None:
    data = make_report_data(1, weight_only=True, sensitive=False)
    result = data.result
    accuracy = replace(result.accuracy, test=None, fp32_test=None, uniform={})
    bare = ReportData(
        result=replace(
            result,
            accuracy=accuracy,
            front=(),
            budget=(),
            versions={},
            search=replace(result.search, exact_optimum=None),
        ),
        metric="activation_bits",
    )
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "sensitivity.png").write_bytes((five / "figures" / "sensitivity.png").read_bytes())
    write_report(bare, tmp_path)
    assert {Path(name).stem for name in files_of(tmp_path)} == {"report", "front", "bits", "sizes"}
    words = " ".join(Page((tmp_path / "report.html").read_text()).words)
    assert "on validation" in words
    assert "weight-only" in words


def test_names_cannot_change_the_page(tmp_path: Path) -> None:
    data = make_report_data(names=HOSTILE)
    data = replace(data, command="<script>alert(2)</script>", metric="bytes", result=replace(data.result, task="<b>x"))
    write_report(data, tmp_path)
    page = Page((tmp_path / "report.html").read_text())
    assert not {"script", "b"} & set(page.tags)
    assert not [key for key, _ in page.attributes if key.startswith("on")]
    words = " ".join(page.words)
    assert "</text><script>alert(1)</script>" in words
    assert "$\\frac{1}{2}$ & 層\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}" in words
    assert "{{ 7 * 7 }}" in words
    assert "<script>alert(2)</script>" in words


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EqnetError, match=rf"needs {package}; run: pip install eqnet\[report\]"):
        write_report(make_report_data(2), tmp_path)
    assert not files_of(tmp_path)


def test_importing_the_report_does_not_import_what_draws_it() -> None:
    code = "import sys, eqnet.search.report; print([m for m in ('matplotlib', 'jinja2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_data_that_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    data = make_report_data(2)
    with pytest.raises(InputError, match="metric 'energy'; choose one of code_bits, bpw"):
        write_report(replace(data, metric="energy"), tmp_path)
    with pytest.raises(InputError, match="no layers"):
        write_report(replace(data, result=replace(data.result, layers=())), tmp_path)


def test_the_headline() -> None:
    result = make_report_data(2).result
    result = replace(
        result,
        cost=replace(result.cost, code_bits=3.9967, bytes=31_200),
        accuracy=replace(result.accuracy, test=0.9641, fp32_test=0.9722),
    )
    assert headline(result).replace("\N{NO-BREAK SPACE}", " ") == (
        "4.00 code bits, 31.2 kB, 96.4 % on test; fp32 97.2 %"
    )


def test_sizes_add_up() -> None:
    data = make_report_data(5)
    fp32, eight, four, this = sizes_of(data)
    assert [fp32.label, eight.label, four.label, this.label] == ["fp32", "uniform 8", "uniform 4", "this network"]
    assert this.total == data.result.cost.bytes
    assert this.codes is not None
    assert this.total - this.codes - this.scales == 900, "what stays in floating point"
    given = [Size("mine", 10, 7, 2)]
    assert sizes_of(replace(data, sizes=given)) == given


def test_an_inlined_svg_has_its_own_names() -> None:
    svg = (
        b'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        b'width="1" viewBox="0 0 1 1">'
        b'<style>*{}</style><metadata>m</metadata><defs><path id="p"/></defs>'
        b'<use xlink:href="#p" clip-path="url(#p)" style="fill: #0072B2"/><text>#0072b2 &lt;</text></svg>'
    )
    assert inlined(svg, "f", 'a "b"') == (
        '<svg viewBox="0 0 1 1" role="img" aria-label="a &quot;b&quot;"><defs><path id="f-p" /></defs>'
        '<use href="#f-p" clip-path="url(#f-p)" style="fill: var(--blue, #0072B2)" /><text>#0072b2 &lt;</text></svg>'
    )


def test_every_width_has_a_colour() -> None:
    assert list(BITS_COLOURS) == list(range(MIN_BITS, MAX_BITS + 1))


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, [1]), (5, [5]), (30, [30]), (31, [16, 15]), (60, [30, 30]), (61, [21, 21, 19])],
)
def test_columns_are_cut_into_even_rows(count: int, expected: list[int]) -> None:
    rows = bands(count, 30)
    assert list(map(len, rows)) == expected
    assert [i for row in rows for i in row] == list(range(count))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (prefixed(999, "B"), "999 B"),
        (prefixed(31_200, "B"), "31.2 kB"),
        (prefixed(4_560_000, "B"), "4.56 MB"),
        (prefixed(2.5e9, "BOP"), "2.50 GBOP"),
        (percent(0.9641), "96.4 %"),
        (percent(None), "–"),
        (points(0.96, 0.97), "−1.0 points"),
        (points(0.9702, 0.97), "0.0 points"),
        (points(0.98, 0.97), "+1.0 points"),
        (duration(61.5), "61.5 s"),
        (duration(184.2), "3.1 min"),
        (duration(9000), "2.5 h"),
        (power_of_ten(1e-12), "10⁻¹²"),
        (power_of_ten(2e-3), ""),
        (shortened(["x" * 40], 10)[0], "xxx…xxxxxx"),
        (shortened(["a.b"], 10)[0], "a.b"),
        (shortened(["block.input.dense", "block.inner.dense"], 9)[0], "b.i.de #1"),
        (shortened(["enc.3.inner.dense", "head", "enc.4.dense"], 12), ["e.3.i.dense", "head", "enc.4.dense"]),
        (shortened(["enc.3.inner.dense", "enc.4.dense"], 14), ["e.3.i.dense", "e.4.dense"]),
    ],
)
def test_numbers_and_names_as_people_read_them(text: str | list[str], expected: str | list[str]) -> None:
    assert (text.replace("\N{NO-BREAK SPACE}", " ") if isinstance(text, str) else text) == expected


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report on a language model of 12 blocks."""
    folder = tmp_path_factory.mktemp("language")
    write_report(make_report_data(48, weight_only=True, perplexity=True), folder)
    return folder


def test_a_language_model_is_shown_by_divergence_perplexity_and_block(language: Path) -> None:
    drawn = {Path(name).stem for name in files_of(language)} - {"report"}
    assert drawn == {"divergence", "blocks", "sensitivity", "predictor", "convergence", "sizes"}
    words = " ".join(Page((language / "report.html").read_text()).words)
    result = make_report_data(48, weight_only=True, perplexity=True).result
    for text in (
        "perplexity 1",
        "Stored bits per weight",
        "Divergence",
        "nats",
        f"{result.scores.uniform[2].validation:.2f}",
    ):
        assert text in words
    for text in ("ccuracy", "Bit operations"):
        assert text not in words


def test_powers_of_ten_are_written_out(language: Path) -> None:
    (drawn,) = language.rglob("divergence.svg")
    text = drawn.read_text(encoding="utf-8")
    assert "10⁻" in text
    assert "$" not in text  # a formula that nobody reads


def test_blocks_are_in_one_map_and_what_is_outside_is_named() -> None:
    names = ["model.embed", *(f"model.layers.{i}.{part}" for i in range(6) for part in ("attn.q", "mlp.up")), "head"]
    data = make_report_data(names=names, weight_only=True, perplexity=True)
    figure = draw_blocks(data)
    assert figure is not None
    cells, means = figure.axes
    assert [label.get_text() for label in cells.get_yticklabels()] == ["attn.q", "mlp.up"]
    bits = {layer.name: layer.weight_format.bits for layer in data.result.layers}
    shown = {(text.get_position(), text.get_text()) for text in cells.texts}
    assert shown == {
        ((i, y), str(bits[f"model.layers.{i}.{part}"])) for i in range(6) for y, part in enumerate(("attn.q", "mlp.up"))
    }
    assert cells.get_title(loc="left") == f"model.embed: {bits['model.embed']} bits, head: {bits['head']} bits"
    weights = {layer.name: layer.weights for layer in data.result.layers}
    pairs = [[f"model.layers.{i}.attn.q", f"model.layers.{i}.mlp.up"] for i in range(6)]
    heights = [sum(bits[n] * weights[n] for n in pair) / sum(weights[n] for n in pair) for pair in pairs]
    assert [bar.get_height() for bar in means.patches] == pytest.approx(heights)


def test_few_blocks_are_no_map() -> None:
    assert draw_blocks(make_report_data(8)) is None
    assert draw_blocks(make_report_data(12)) is None
