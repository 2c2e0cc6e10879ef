"""Telling transformers of eqnet's artifacts, without importing transformers.

``AutoModelForCausalLM.from_pretrained`` finds who loads a quantized model in a table of
``transformers.quantizers.auto``. Importing that module to add a row takes seconds, which ``import eqnet`` must not
cost those who never use it; leaving the row to a call of the user's is one that they forget. So the row is added when
the module is imported by whoever needs it first, which transformers itself does before it loads any model: a finder
waits for that one name, finds the module as Python would have without it, and is gone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

TABLE = "transformers.quantizers.auto"


class _Waiting(MetaPathFinder):
    """Adds the row once ``TABLE`` has run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != TABLE:
            return None
        sys.meta_path.remove(self)
        specs = (finder.find_spec(fullname, path, target) for finder in list(sys.meta_path))
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            run = loader.exec_module

            def run_and_register(module: ModuleType) -> None:
                run(module)
                _register()

            loader.exec_module = run_and_register
        return spec


def register_with_transformers() -> None:
    """Adds the row now if its table is there, else as soon as it is."""
    if TABLE in sys.modules:
        _register()
    elif not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())


def _register() -> None:
    try:
        import eqnet.lm.hub  # noqa: F401
    except ImportError:  # a transformers before 5 has no such table; it works as if eqnet were not there
        return
