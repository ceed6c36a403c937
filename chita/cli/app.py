"""The `chita` program: its commands, and what every failure looks like."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any, ParamSpec

import typer
from pydantic import ValidationError
from rich.markup import escape
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from chita.cli.apply import apply
from chita.cli.benchmark import benchmark
from chita.cli.demo import demo
from chita.cli.evaluate import evaluate
from chita.cli.export import export
from chita.cli.feedback import Feedback, LogFormat
from chita.cli.methods import methods
from chita.cli.models import models
from chita.cli.plan import plan
from chita.cli.prune import prune
from chita.cli.refit import refit
from chita.cli.report import report
from chita.cli.sensitivity import sensitivity
from chita.cli.sweep import sweep
from chita.cli.verify import verify
from chita.errors import ChitaError
from chita.records import versions

_P = ParamSpec("_P")


def _guarded(command: Callable[_P, None]) -> Callable[_P, None]:
    """The command, with one message and an exit code for each way to fail on purpose."""

    @wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        feedback = _feedback_of(kwargs)
        try:
            with feedback.heard():
                command(*args, **kwargs)
        except ChitaError as error:
            feedback.error(str(error))
            raise typer.Exit(2) from None
        except SystemExit as error:  # networks and data are code of the user, which may call exit
            if isinstance(error.__context__, BrokenPipeError):  # rich makes it of that
                raise typer.Exit(141) from None
            feedback.error(
                f"Code named by --model, --data or --loss ended the program (exit code "
                f"{error.code}). Take its sys.exit out, or put what is no definition under "
                "if __name__ == '__main__'."
            )
            raise typer.Exit(2) from None
        except BrokenPipeError:  # the reader of our output has left
            raise typer.Exit(141) from None
        except OSError as error:
            feedback.error(f"{error}. Check the path.")
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            feedback.error("Interrupted; no result was written.", sign="")
            raise typer.Exit(130) from None
        except typer.Exit:
            raise
        except Exception:  # a mistake of ours: people get its trace as it is
            if not feedback.json:
                raise
            feedback.error(traceback.format_exc())
            raise typer.Exit(1) from None

    return run


def _feedback_of(arguments: Mapping[str, Any]) -> Feedback:
    """What a command was asked to say, where it can be asked."""
    return Feedback(
        quiet=bool(arguments.get("quiet")),
        log_format=LogFormat(arguments.get("log_format", LogFormat.TEXT)),
    )


class _Program(TyperGroup):
    """The commands; wrong usage gets the same one message as any other mistake."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command and leave with its exit code."""
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except Exception as error:
            if not hasattr(error, "format_message"):  # a usage error has it in every typer
                raise
            given = kwargs.get("args") or (args[0] if args else None) or sys.argv[1:]
            _say_usage(error, Feedback.asked(given))
            code = 2
        sys.exit(code or 0)


class _Command(TyperCommand):
    """A command whose help is shown as it is written: words in brackets are no markup."""

    def __init__(self, name: str | None, **settings: Any) -> None:
        super().__init__(name, **settings)
        for parameter in self.params:
            if isinstance(parameter, (TyperArgument, TyperOption)) and parameter.help:
                parameter.help = escape(parameter.help)


def _say_usage(error: Any, feedback: Feedback) -> None:
    message = error.format_message()
    if not message:  # there were no arguments at all, and help was shown
        return
    cause = error.__cause__
    if isinstance(cause, ValidationError):
        message += f"; got {cause.errors()[0]['input']!r}"
    context = getattr(error, "ctx", None)
    dot = "" if message[-1] in ".?" else "."
    feedback.error(f"{message}{dot} See {context.command_path if context else 'chita'} --help.")


app = typer.Typer(
    name="chita",
    cls=_Program,
    help="Prune trained networks: which weights go, and how the rest change, chosen together.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _tell_version(asked: bool) -> None:
    if asked:
        print("chita", versions()["chita"])
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_tell_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass


_COMMANDS: tuple[Callable[..., None], ...] = (
    *(prune, plan, sensitivity, refit, apply, verify, evaluate, sweep, report, export, benchmark),
    *(methods, models, demo),
)
for _command in _COMMANDS:
    app.command(cls=_Command)(_guarded(_command))


def main() -> None:
    """Run the program.

    Exit codes: 0 done, 1 a check failed (`verify`), 2 bad input (one message), 130 interrupted.
    """
    app()
