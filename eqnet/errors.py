"""The errors that eqnet raises on purpose.

Each message says what was given, what was expected and what to do. The command line prints the message
without a traceback and exits with the class's ``exit_code``.
"""


class EqnetError(Exception):
    """A failure that eqnet foresaw; base class of all the others."""

    exit_code = 1


class InputError(EqnetError):
    """Something the user gave (an option, a file, a task, a number) cannot be used."""

    exit_code = 2


class ModelError(InputError):
    """The model, its weights or its data cannot be quantized; the message names the layer."""


class BudgetError(InputError):
    """A budget cannot be read, or no subnet meets it; the message has the nearest feasible value."""


class MissingPackageError(EqnetError):
    """A package of one of the extras is not installed; the message has the command that installs it."""


class RunError(InputError):
    """A run folder, checkpoint or store is foreign, corrupt, in use or cannot be written."""
