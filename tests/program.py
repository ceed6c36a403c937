"""The `chita` program, run in this process."""

import contextlib
import io
from dataclasses import dataclass

from chita.cli.app import main


@dataclass(frozen=True)
class Done:
    """How a run of the program ended, and what it printed."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self):
        """All that it printed."""
        return self.stdout + self.stderr


def chita(*arguments):
    """Run the program with arguments, which may be texts, numbers or paths."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = ended.code or 0
    return Done(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))
