"""Artifacts as quantized models of transformers: ``AutoModelForCausalLM.from_pretrained(FOLDER)``.

``import eqnet`` is all that it takes: ``hook.py`` imports this module, which adds its rows to transformers' tables.
The model is the one of ``eqnet.load``, on the same mapped files and checked in the same way, in the place of the one
that transformers has made: of that, only the object itself, its configuration and its generation settings stay.
"""

from __future__ import annotations

from pathlib import Path
from types import MethodType
from typing import Any

import torch
from transformers.quantizers import auto
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from eqnet.errors import InputError
from eqnet.packed.artifact import METHOD, Artifact
from eqnet.packed.loading import load
from eqnet.packed.model import PackedModel
from eqnet.packed.plain_layers import with_plain_layers


class EqnetConfig(QuantizationConfigMixin):  # type: ignore[misc]
    """``quantization_config`` of an artifact's ``config.json``, as it is."""

    def __init__(self, **entries: Any) -> None:
        self.__dict__.update(entries)
        self.quant_method = METHOD


class EqnetQuantizer(HfQuantizer):  # type: ignore[misc]
    """Loads an artifact in the place of the model that transformers has built for it.

    Of the arguments of ``from_pretrained`` it follows ``dtype`` and a ``device_map`` with one device.
    """

    def __init__(self, quantization_config: Any, **kwargs: Any) -> None:
        super().__init__(quantization_config, **kwargs)
        self._device: Any = None
        self._dtype: Any = None
        self._folder: Path | None = None

    def validate_environment(self, *args: Any, **kwargs: Any) -> None:
        """Raises InputError if the model is not packed yet: a configuration alone does not pack it."""
        if not self.pre_quantized:
            raise InputError(
                "quantization_config: eqnet packs no model while it is loaded; 'eqnet search --model FOLDER' does"
            )

    def update_device_map(self, device_map: Any) -> None:
        """Keeps the device for later; transformers is to move nothing."""
        devices = set(device_map.values()) if isinstance(device_map, dict) else {device_map}
        if len(devices) > 1:
            raise InputError(
                f"device_map has {len(devices)} devices; a packed model goes to one, e.g. device_map='cpu'"
            )
        device = devices.pop() if devices else None
        if device in ("auto", "balanced", "sequential", "balanced_low_0"):
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._device = device

    def update_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Keeps the type that was asked for."""
        self._dtype = dtype
        return dtype

    def is_serializable(self) -> bool:
        """Yes: ``save_pretrained`` writes an artifact."""
        return True

    @property
    def is_trainable(self) -> bool:
        """No: there are only codes."""
        return False

    def _process_model_before_weight_loading(self, model: Any, checkpoint_files: Any = None, **kwargs: Any) -> Any:
        """Leaves transformers nothing to load."""
        if not checkpoint_files:
            raise InputError("eqnet loads packed models from their folders; state_dict= cannot be given")
        self._folder = Path(checkpoint_files[0]).parent
        model._modules.clear()
        model.all_tied_weights_keys = {}
        model._keys_to_ignore_on_load_unexpected = {"."}
        return model

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        """Puts the parts of the packed model in the place of the model's own."""
        assert self._folder is not None
        packed = load(self._folder, lambda: with_plain_layers(type(model)(model.config)))
        made = packed.model
        model._modules, model._parameters, model._buffers = made._modules, made._parameters, made._buffers
        model._tied_weights_keys = None  # what is tied is one tensor already
        model.eqnet_record = packed.record
        model.save_pretrained = MethodType(_save_pretrained, model)
        if str(self._dtype) != f"torch.{Artifact.open(self._folder).config.get('dtype')}":
            _change_type(model, self._dtype)  # asked for; else every tensor keeps the type in which it is stored
        if self._device is not None:
            model.to(self._device)
        return model.eval()


def packed_of(model: Any) -> PackedModel:
    """The packed model behind one that ``from_pretrained`` gave; the two share everything.

    Raises:
        InputError: the model is none of eqnet's.
    """
    record = getattr(model, "eqnet_record", None)
    if record is None:
        raise InputError(f"this {type(model).__name__} was not loaded from an artifact of eqnet")
    return PackedModel(model, record)


def _change_type(model: Any, dtype: torch.dtype) -> None:
    """``model.to(dtype)`` but for buffers that are made with the model: 16 bits are too few to tell positions apart."""
    kept = [
        (module, name, buffer)
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
        if name in module._non_persistent_buffers_set
    ]
    model.to(dtype)
    for module, name, buffer in kept:
        module._buffers[name] = buffer


def _save_pretrained(self: Any, save_directory: str | Path, **kwargs: Any) -> None:
    """Writes an artifact and the generation settings.

    Args:
        self: the model.
        save_directory: new, empty, or an older artifact.
        **kwargs: ``safe_serialization=True`` and whatever else is None or False; there is nothing to choose.

    Raises:
        InputError: another option was given.
        RunError: the folder holds something else or cannot be written.
    """
    asked = {name for name, value in kwargs.items() if value and name not in ("safe_serialization", "is_main_process")}
    if asked:
        raise InputError(f"save_pretrained: a packed model is saved without {', '.join(sorted(asked))}; leave it out")
    packed_of(self).save(save_directory)
    self.generation_config.save_pretrained(save_directory)


if METHOD not in auto.AUTO_QUANTIZER_MAPPING:
    auto.register_quantization_config(METHOD)(EqnetConfig)
    auto.register_quantizer(METHOD)(EqnetQuantizer)
