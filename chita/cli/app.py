"""The `chita` program: its commands, and what every failure looks like."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import typer

from chita.cli.apply import apply
from chita.cli.console import stderr
from chita.cli.demo import demo
from chita.cli.evaluate import evaluate
from chita.cli.methods import methods
from chita.cli.models import models
from chita.cli.plan import plan
from chita.cli.prune import prune
from chita.cli.refit import refit
from chita.errors import ChitaError

_P = ParamSpec("_P")


def _guarded(command: Callable[_P, None]) -> Callable[_P, None]:
    """The command, with one message and an exit code for each way to fail on purpose."""

    @wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ChitaError as error:
            stderr.print(f"Error: {error}", markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(2) from None
        except BrokenPipeError:  # the reader of our output has left
            raise typer.Exit(141) from None
        except OSError as error:
            stderr.print(f"Error: {error}. Check the path.", markup=False, soft_wrap=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            stderr.print("Interrupted; nothing was written.", markup=False)
            raise typer.Exit(130) from None

    return run


app = typer.Typer(
    name="chita",
    help="Prune trained networks: which weights go, and how the rest change, chosen together.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _command in (prune, plan, refit, apply, evaluate, methods, models, demo):
    app.command()(_guarded(_command))


def main() -> None:
    """Run the program. Exit codes: 0 done, 2 bad input (one message), 130 interrupted."""
    app()
