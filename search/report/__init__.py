"""A report that can be sent to anyone: one HTML page that needs nothing else, and its figures as files."""

from __future__ import annotations

import importlib
from pathlib import Path

from eqnet.errors import InputError, MissingPackageError, RunError
from eqnet.files import write_atomically
from eqnet.search.report.figures import FIGURES
from eqnet.search.report.units import METRICS
from eqnet.search.result import ReportData, Size

__all__ = ["ReportData", "Size", "write_report"]

PAGE = "report.html"
FIGURES_FOLDER = "figures"


def write_report(data: ReportData, folder: Path) -> Path:
    """Writes ``report.html``, and ``figures/*.png`` and ``*.svg``, into ``folder``; returns the page's path.

    A figure for which ``data`` has nothing is left out, and its files of an earlier report are removed.

    Raises:
        MissingPackageError: matplotlib or jinja2 is not installed.
        InputError: the data has no layers, or its metric is unknown.
        RunError: the folder cannot be written.
    """
    for package in ("matplotlib", "jinja2"):
        try:
            importlib.import_module(package)
        except ImportError as e:
            raise MissingPackageError(f"the report needs {package}; run: pip install eqnet[report]") from e
    if not data.result.layers:
        raise InputError("the result has no layers; there is nothing to report")
    if data.metric not in METRICS:
        raise InputError(f"a report cannot draw the metric '{data.metric}'; choose one of {', '.join(METRICS)}")

    from eqnet.search.report import style
    from eqnet.search.report.inline import inlined
    from eqnet.search.report.page import render

    svgs = {}
    with style.styled():
        for kind in FIGURES:
            figure = kind.draw(data)
            for extension in ("png", "svg"):
                path = folder / FIGURES_FOLDER / f"{kind.name}.{extension}"
                if figure is None:
                    _remove(path)
                    continue
                content = style.write(figure, extension)
                write_atomically(path, content)
                if extension == "svg":
                    svgs[kind.name] = inlined(content, kind.name, f"{kind.title}. {kind.caption}")
    page = folder / PAGE
    write_atomically(page, render(data, svgs))
    return page


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as e:
        raise RunError(f"{path}: cannot be removed ({e.strerror or e})") from e
