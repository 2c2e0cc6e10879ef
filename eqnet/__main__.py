"""``python -m eqnet`` and ``torchrun -m eqnet`` are the ``eqnet`` command."""

from eqnet.cli import main

main()
