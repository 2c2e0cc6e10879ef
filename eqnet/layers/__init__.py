"""Elastic layers, one file a kind; importing this package registers them all."""

from eqnet.layers.base import ELASTIC, Elastic
from eqnet.layers.conv import ElasticConv1d, ElasticConv2d, ElasticConv3d
from eqnet.layers.conv_transpose import ElasticConvTranspose1d, ElasticConvTranspose2d, ElasticConvTranspose3d
from eqnet.layers.embedding import ElasticEmbedding
from eqnet.layers.linear import ElasticLinear

__all__ = [
    "ELASTIC",
    "Elastic",
    "ElasticConv1d",
    "ElasticConv2d",
    "ElasticConv3d",
    "ElasticConvTranspose1d",
    "ElasticConvTranspose2d",
    "ElasticConvTranspose3d",
    "ElasticEmbedding",
    "ElasticLinear",
]
