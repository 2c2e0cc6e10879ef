"""What is said of models that have no integer form."""

from __future__ import annotations

from eqnet.errors import ModelError


class UnsupportedError(ModelError):
    """The model does something that integer programs do not; the message names it. It still runs layer by layer."""
