"""The ``eqnet`` command: each verb parses, calls one function of the library and prints."""

from __future__ import annotations

import io
import sys

import click

from eqnet.cli import environment  # isort: skip  # noqa: F401 (before anything loads OpenMP)
from eqnet.cli.verbs import Verbs
from eqnet.errors import EqnetError

INTERRUPTED = 130
"""The exit status of a command ended by Ctrl-C, 128 + SIGINT."""


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="eqnet")
def cli() -> None:
    """Elastic quantization: one trained PyTorch model in, every quantized model its users need out."""


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits: 0 done, 1 failure, 2 bad input, 130 interrupted."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without the letter τ loses that letter, not the figures
    try:
        status = cli.main(arguments, standalone_mode=False)
    except EqnetError as e:
        click.echo(f"Error: {e}", err=True)
        sys.exit(e.exit_code)
    except click.ClickException as e:
        e.show()
        sys.exit(e.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("\nInterrupted; nothing is lost. The same command goes on from here.", err=True)
        sys.exit(INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)
