"""Packed layers, one file a kind; importing this package registers them all."""

from eqnet.packed.layers.base import PACKED, InputRange, PackedLayer
from eqnet.packed.layers.conv import PackedConv, PackedConv1d, PackedConv2d, PackedConv3d
from eqnet.packed.layers.conv_transpose import (
    PackedConvTranspose,
    PackedConvTranspose1d,
    PackedConvTranspose2d,
    PackedConvTranspose3d,
)
from eqnet.packed.layers.embedding import PackedEmbedding
from eqnet.packed.layers.linear import PackedLinear
from eqnet.packed.layers.norm import ChannelAffine

__all__ = [
    "PACKED",
    "ChannelAffine",
    "InputRange",
    "PackedConv",
    "PackedConv1d",
    "PackedConv2d",
    "PackedConv3d",
    "PackedConvTranspose",
    "PackedConvTranspose1d",
    "PackedConvTranspose2d",
    "PackedConvTranspose3d",
    "PackedEmbedding",
    "PackedLayer",
    "PackedLinear",
]
