"""The `chita` program: its commands, and what every failure looks like."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

from cyclopts import App, CycloptsError
from cyclopts.exceptions import MissingArgumentError, UnknownOptionError, UnusedCliTokensError

from chita.cli import requests
from chita.cli.feedback import Feedback
from chita.cli.generated import command, flagged, usage
from chita.cli.wishes import answer_to
from chita.errors import ChitaError
from chita.settings import Request

COMMANDS: dict[str, type[Request]] = {
    "prune": requests.PruneRequest,
    "plan": requests.PlanRequest,
    "sensitivity": requests.SensitivityRequest,
    "refit": requests.RefitRequest,
    "apply": requests.ApplyRequest,
    "verify": requests.VerifyRequest,
    "evaluate": requests.EvaluateRequest,
    "sweep": requests.SweepRequest,
    "report": requests.PageRequest,
    "export": requests.ExportRequest,
    "benchmark": requests.BenchmarkRequest,
    "solvers": requests.SolversRequest,
    "models": requests.ModelsRequest,
    "demo": requests.DemoRequest,
}
"""Every command, and what it is asked for; `chita.cli.NAME` does the work of NAME."""


def program() -> App:
    """Return the program, generated from the requests of its commands as they are now."""
    app = App(
        name="chita",
        help="Prune trained networks: which weights go, and how the rest change, chosen together.",
        version=_version,
        help_format="plaintext",
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    for place, (name, kind) in enumerate(COMMANDS.items()):
        run, line = command(kind, name), f"chita {name} {usage(kind)}"
        app.command(run, name=name, help=kind.__doc__, usage=line, sort_key=place)
    return app


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program.

    Exit codes: 0 done, 1 a check failed (`verify`), 2 bad input (one message), 130 interrupted.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    feedback = Feedback.asked(given)
    try:
        with feedback.heard():
            code = _run(given)
        sys.stdout.flush()
    except ChitaError as error:
        kind = COMMANDS.get(given[0]) if given else None
        feedback.error(flagged(str(error), kind) if kind else str(error))
        code = 2
    except CycloptsError as error:
        feedback.error(_usage(error))
        code = 2
    except SystemExit as error:  # networks and data are code of the user, which may call exit
        if isinstance(error.__context__, BrokenPipeError):  # rich makes it of that
            code = _left()
        else:
            feedback.error(
                f"Code named by --model, --data or --loss ended the program (exit code "
                f"{error.code}). Take its sys.exit out, or put what is no definition under "
                "if __name__ == '__main__'."
            )
            code = 2
    except BrokenPipeError:  # the reader of our output is gone
        code = _left()
    except OSError as error:
        feedback.error(f"{error}. Check the path.")
        code = 2
    except KeyboardInterrupt:
        feedback.error("Interrupted; no result was written.", sign="")
        code = 130
    except Exception:  # a mistake of ours: people get its trace as it is
        if not feedback.json:
            raise
        feedback.error(traceback.format_exc())
        code = 1
    sys.exit(code)


def _run(given: list[str]) -> int:
    """Run one command and return its exit code; without any, show help."""
    app = program()
    if not given:
        app.help_print([])
        return 2
    return app(given) or 0


def _left() -> int:
    """Return the exit code without a reader; what is still to be written is dropped."""
    sys.stdout = None
    return 141


def _version() -> str:
    try:
        return f"chita {version('chita')}"
    except PackageNotFoundError:
        return "chita, not installed"


def _usage(error: CycloptsError) -> str:
    """Return what is wrong with a command line, as one sentence or two."""
    told = str(error)
    if isinstance(error, MissingArgumentError):
        flag = error.keyword or (error.argument.name if error.argument else "The last option")
        told = f"{flag} requires a value."
    elif isinstance(error, UnusedCliTokensError):
        told = f"Unexpected arguments: {' '.join(error.unused_tokens or ())}."
    elif isinstance(error, UnknownOptionError):
        given = (error.token.keyword or error.token.value).partition("=")[0]
        answer = answer_to(given)
        told = f"There is no {given}. {answer}" if answer else told
    return f"{told} See {' '.join(['chita', *(error.command_chain or ())])} --help."
