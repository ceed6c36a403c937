"""Checks that no linter makes: lengths, names, what low layers import, defaults of PyTorch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

FILE_LINES, BODY_LINES = 400, 60
NAMELESS = {"utils", "helpers", "common", "misc"}
BELOW_NETWORKS = {
    *("errors", "naming", "arguments", "linalg", "layout", "records", "progress"),
    *("nested", "imports", "pickles", "machine", "image_format", "sensitivity_record", "logger"),
    "sparse_file",
    *("problem", "constraints", "solvers"),
}
FLOATS = {"zeros", "ones", "empty", "full", "eye", "linspace", "rand", "randn"}
MAKERS = {
    "device": FLOATS | {"arange", "randperm", "randint", "tensor", "as_tensor"},
    "dtype": FLOATS,
}
NETWORK_LIBRARIES = ("torch.nn", "torchvision", "timm", "transformers")


def faults(path: Path) -> Iterator[str]:
    """Yield what is wrong with one Python file."""
    source = path.read_text()
    tree = ast.parse(source)
    if len(source.splitlines()) > FILE_LINES:
        yield f"{path}: more than {FILE_LINES} lines; split it along its ideas"
    if NAMELESS & {part.removesuffix(".py") for part in path.parts}:
        yield f"{path}: named after nothing; name it after its idea"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = body_lines(node)
            if lines > BODY_LINES:
                yield f"{path}:{node.lineno}: the body of {node.name} has {lines} lines"
        if path.parts[0] == "chita" and isinstance(node, ast.Call):
            library, _, name = ast.unparse(node.func).partition(".")
            given = {keyword.arg for keyword in node.keywords}
            for said, makers in MAKERS.items():
                if library == "torch" and name in makers and said not in given:
                    yield f"{path}:{node.lineno}: torch.{name} without {said} takes a default"
    if path.parts[0] == "chita" and Path(path.parts[1]).stem in BELOW_NETWORKS:
        for name in (name for node in ast.walk(tree) for name in imported(node)):
            if name.startswith(NETWORK_LIBRARIES):
                yield f"{path}: {name} is not imported below chita.models"


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of lines of a body, without its docstring."""
    first = node.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    body = node.body[1:] if documented else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def imported(node: ast.AST) -> list[str]:
    """Return the full names that an import statement brings in."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def main() -> None:
    """Check every Python file that git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [Path(line) for line in listed.stdout.splitlines() if Path(line).exists()]
    found = [fault for path in paths for fault in faults(path)]
    print(
        "\n".join(found)
        or f"{len(paths)} files: lengths, names, imports and tensors as they should be"
    )
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
