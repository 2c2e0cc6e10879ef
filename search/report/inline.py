"""An SVG file turned into an element of the page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from eqnet.search.report.style import THEMED

_COLOUR = re.compile("|".join(THEMED), re.IGNORECASE)
_REFERENCE = re.compile(r"url\(#([^)]*)\)")
_DROPPED = frozenset({"metadata", "style"})
"""Elements of the file that the page has no use for; the style would apply to the whole page."""


def inlined(svg: bytes, name: str, label: str) -> str:
    """The ``svg`` element for an HTML page.

    Namespaces go, as HTML knows SVG by itself; ids take ``name`` as prefix, for they must be unique in the page; and
    the colours of ``THEMED`` become variables of the page, with themselves as fallback.

    Args:
        svg: a file that matplotlib wrote.
        name: of the figure, unique in the page.
        label: what screen readers say.
    """
    root = ET.fromstring(svg)
    for parent in list(root.iter()):
        for child in [child for child in parent if _local(child.tag) in _DROPPED]:
            parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        attributes = {_local(key): value for key, value in element.attrib.items()}
        element.attrib.clear()
        element.attrib.update({key: _attribute(key, value, name) for key, value in attributes.items()})
        if element.tag != "text" and not (element.text or "").strip():
            element.text = None
        if not (element.tail or "").strip():
            element.tail = None
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib.update({"role": "img", "aria-label": label})
    return ET.tostring(root, encoding="unicode")


def _local(name: str) -> str:
    return name.rsplit("}", 1)[-1]


def _attribute(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return value.replace("#", f"#{name}-", 1)
    value = _REFERENCE.sub(rf"url(#{name}-\1)", value)
    return _COLOUR.sub(lambda match: f"var(--{THEMED[match[0].lower()]}, {match[0]})", value)
