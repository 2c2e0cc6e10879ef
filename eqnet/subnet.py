"""One assignment of formats to layers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from eqnet.errors import InputError
from eqnet.files import write_atomically
from eqnet.formats import LayerFormat


class Subnet(Mapping[str, LayerFormat]):
    """An immutable mapping from a layer's name to its format, in the order in which the layers run.

    Two subnets are equal, and hash alike, when they give the same format to the same layers.
    """

    def __init__(self, formats: Mapping[str, LayerFormat]) -> None:
        self._formats = dict(formats)

    def __getitem__(self, layer: str) -> LayerFormat:
        return self._formats[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self._formats)

    def __len__(self) -> int:
        return len(self._formats)

    def __hash__(self) -> int:
        return hash(frozenset(self._formats.items()))

    def __repr__(self) -> str:
        return f"Subnet({', '.join(f'{name}: {fmt}' for name, fmt in self.items())})"

    def to_json(self) -> dict[str, dict[str, str | None]]:
        return {name: fmt.to_json() for name, fmt in self.items()}

    @classmethod
    def from_json(cls, data: object) -> Subnet:
        """Raises InputError unless data maps names to layer formats, as ``to_json`` writes them."""
        if not isinstance(data, dict):
            raise InputError(f"a subnet is an object of layer formats; got {type(data).__name__}")
        formats = {}
        for name, value in data.items():
            try:
                formats[name] = LayerFormat.from_json(value)
            except InputError as e:
                raise InputError(f"layer '{name}': {e}") from e
        return cls(formats)

    def save(self, path: str | Path) -> None:
        """Writes the subnet as JSON."""
        write_atomically(path, json.dumps(self.to_json(), indent=2) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Subnet:
        """Reads what ``save`` wrote; raises InputError, naming the file, if it is not a subnet."""
        try:
            return cls.from_json(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError) as e:  # the last from JSON that nests too deep
            raise InputError(f"{path}: cannot be read as a subnet ({e})") from e
        except InputError as e:
            raise InputError(f"{path}: {e}") from e
