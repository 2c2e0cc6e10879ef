"""Language models whose blocks are known, run whole by the kernels."""

from eqnet.lm.decoder.blocks import UnknownBlockError
from eqnet.lm.decoder.engine import Decoder

__all__ = ["Decoder", "UnknownBlockError"]
