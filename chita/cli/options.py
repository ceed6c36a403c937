"""The groups of options that only the command line has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from chita.cli.feedback import Feedback
from chita.options import Options, option, shared
from chita.pruning.config import SPARSITIES


class NetworkOptions(Options):
    """The network."""

    model: str = option(
        "digits-mlp",
        "Network: a name of chita models, torchvision:NAME, timm:NAME, hf:PATH_OR_ID, or your own "
        "package.module:function that returns one.",
    )
    weights: Path | None = option(
        None, "Checkpoint or run folder.", unset="the weights the network comes with"
    )
    allow_pickle: bool = option(
        False, "Unpickle foreign objects in a checkpoint. This runs code stored in the file."
    )
    device: str = option("cpu", "cpu, cuda, cuda:1, ...")


class DataOptions(Options):
    """The data of a network."""

    data: str | None = option(
        None,
        "digits, mnist; a folder or zip of images in class folders; text (.txt, .jsonl, or a "
        "folder with train.txt or valid.txt and test.txt; or datasets:FOLDER_OR_ID of Hugging "
        "Face); a file of tensors (.npz, .pt, .safetensors); or package.module:function that "
        "returns (calibration, evaluation).",
        unset="the network's own",
    )
    data_dir: Path | None = option(None, "Folder of a named data set.", unset="the current folder")
    image_size: int | None = option(
        None, "Side of images in pixels.", at_least=1, unset="the network's, or as is"
    )
    image_mean: tuple[float, ...] | None = option(
        None, "Mean of the channels, of pixels in 0 to 1: 0.5,0.5,0.5.", value="N,N,N"
    )
    image_std: tuple[float, ...] | None = option(
        None, "Standard deviation of the channels.", value="N,N,N"
    )
    length: int | None = option(
        None, "Tokens of a sequence of text, for hf:PATH.", at_least=8, unset="128 at most"
    )
    loss: str | None = option(
        None,
        "cross_entropy, nll, mse, model (what the network returns for a dict), or "
        "package.module:function of (model, batch).",
        unset="by the batches",
    )


class EvaluationOptions(Options):
    """The samples that the network is measured on."""

    evaluate: int | str | None = option(
        None,
        "Samples that the network is measured on, drawn evenly by `seed`: a number, 0 for no "
        "measure, or all.",
        at_least=0,
        choices=("all",),
        value="N",
        unset="64 sequences of text, 2,000 of other samples",
    )


class SelectionOptions(Options):
    """The tensors to prune."""

    targets: tuple[str, ...] | None = option(
        None,
        "Prune only what this matches: a name, a glob, re:PATTERN or a type such as Linear; may be "
        "repeated.",
        unset="all but embeddings",
    )
    ignore: tuple[str, ...] = option(
        (), "Leave untouched what this matches, as in `targets`; may be repeated."
    )


class SolverOptions(Options):
    """The solver."""

    solver: str = option("chita", "A name of chita solvers, or your own package.module:Class.")
    options: dict[str, bool | int | float | str] | None = option(
        None,
        "An option of the solver; chita solvers NAME lists them. May be repeated.",
        value="NAME=VALUE",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "options", dict(self.options or {}))


class OutputOptions(Options):
    """The run folder."""

    out: Path | None = option(None, "Run folder to write.")
    resume: bool = option(
        False, "Go on after the last finished stage of a run to `out` that was killed."
    )
    force: bool = option(False, "Replace `out` if it exists.")


class ReportOptions(Options):
    """The run file, and the output of a command."""

    config: Path | None = option(None, "Run file (TOML) of these options; the command line wins.")
    json: bool = option(False, "Print one JSON object, and nothing else, to standard output.")
    tensorboard: Path | None = option(
        None,
        "Folder for TensorBoard: the numbers of every stage, epoch and layer. Needs the extra "
        "tensorboard.",
    )
    all_layers: bool = option(
        False,
        "Show every layer; otherwise equal blocks are one line where there are over 40 layers.",
    )
    quiet: bool = option(False, "Show no progress and no notices, only results and errors.")
    log_format: str = option(
        "text",
        "Form of progress, notices and errors on standard error: text, or json, one object a line.",
        choices=("text", "json"),
    )

    @property
    def feedback(self) -> Feedback:
        """Progress, notices and errors in the form that is asked for."""
        return Feedback(quiet=self.quiet, json=self.log_format == "json")

    def show(self, found: object, table: Callable[[], None], written: Path | None = None) -> None:
        """Print what was found: as JSON where that is asked for, else by `table`, for people.

        `found` is plain data or their JSON; people are also told what was `written`.
        """
        if self.json:
            print(found if isinstance(found, str) else json.dumps(found, default=str))
            return
        table()
        if written is not None:
            self.feedback.notice(f"Written: {written}")


class MaskOptions(Options):
    """The mask."""

    mask: Path = option(
        help="Run folder or its masks.safetensors, a checkpoint with weight_mask buffers, or one "
        "whose zeros are the mask."
    )


class SensitivityOptions(Options):
    """The levels that are measured, and the files to write."""

    sparsities: tuple[float, ...] = option(
        SPARSITIES,
        "Shares of a tensor to remove, each at least 0 and below 1.",
        value="S1,S2,...",
    )
    out: Path | None = option(
        None,
        "Folder to write, with record.json and levels.csv, which chita prune --per-layer reads; or "
        "a file name in .csv for only that table.",
    )
    force: bool = shared(OutputOptions, "force", False)
    plot: Path | None = option(None, "Picture to write: .png, .svg or .pdf.")


class VerifyOptions(Options):
    """The file that is checked."""

    path: Path = option(
        help="Run folder; with `mask`, any checkpoint of the same network, trained or merged since."
    )
    mask: Path | None = option(
        None, "Run folder or masks.safetensors to check zeros by.", unset="the folder's own masks"
    )
    allow_pickle: bool = shared(NetworkOptions, "allow_pickle", False)


class SweepOptions(Options):
    """The runs, and what becomes of them."""

    grid: Path = option(help="Run file (TOML) of chita prune, with lists of options under [sweep].")
    out: Path = option(help="File of results, one JSON object a line; runs in it are done.")
    jobs: int | None = option(
        None,
        "Runs at a time, which share the threads that one run would use (OMP_NUM_THREADS).",
        at_least=1,
        unset="one per core",
    )
    only: tuple[str, ...] = option(
        (),
        "Do only the runs in which an option of [sweep] has this value: solver=chita. May be "
        "repeated; several values of one option are alternatives.",
    )
    compare: Path | None = option(
        None,
        "Earlier results of the same sweep: the table of now is shown with the difference from "
        "theirs.",
    )
    table: Path | None = option(None, "Markdown file to write at the end.")
    plot: Path | None = option(
        None,
        "Picture to write at the end: the measure against the columns; against seconds if there is "
        "only one column.",
    )
    curves: Path | None = option(
        None, "Picture to write at the end: the measure over the epochs of training."
    )
    against: str = option(
        "budget",
        "Columns: budget, or flops, the measured share of FLOPs that is left.",
        choices=("budget", "flops"),
    )


class PageOptions(Options):
    """A page about runs."""

    runs: tuple[Path, ...] = option(
        help="Run folders, record.json files, and results of sweeps (.jsonl)."
    )
    out: Path = option(help="Page to write, .html; it needs no other file.")
    plots: Path | None = option(None, "Folder for every plot of the page, as PNG and as SVG.")


class ReopenedOptions(Options):
    """The name of a run's network, in place of the one in its record."""

    model: str | None = shared(NetworkOptions, "model", None)
    allow_pickle: bool = shared(NetworkOptions, "allow_pickle", False)


class ExportOptions(Options):
    """A file made from a run."""

    run: Path = option(help="Run folder.")
    to: str = option(
        help="Kind of file: dense, tensors with their zeros; sparse, without these; hf, a folder "
        "for from_pretrained; onnx, mnn, openvino, a graph for them; torch-csr, a state dict of "
        "PyTorch; semi-structured, 2:4 weights for sparse tensor cores, which this needs."
    )
    out: Path = option(help="File to write; a folder for hf.")
    values: str | None = option(
        None, "float16 or bfloat16: how a sparse file stores numbers.", unset="as they are"
    )
    batch: int = option(1, "Samples in a call of the network.", at_least=1)
    force: bool = shared(OutputOptions, "force", False)


class BenchmarkOptions(Options):
    """The runtimes to measure, and the time for it."""

    run: Path = shared(ExportOptions, "run")
    runtime: tuple[str, ...] | None = option(
        None,
        "torch, torch-csr, onnxruntime, mnn, openvino; may be repeated.",
        unset="all installed ones",
    )
    batch: int = shared(ExportOptions, "batch", 1)
    layers: bool = option(True, "Whether every layer is measured by itself, too.")
    seconds: float = option(2.0, "Time for which a network is measured in a runtime.", above=0)
    dense: Path | None = option(
        None, "Checkpoint of the dense network.", unset="the weights that the run began with"
    )
    out: Path | None = option(None, "File for all that was measured, JSON.")
    force: bool = shared(OutputOptions, "force", False)


class NamedSolver(Options):
    """One of the solvers."""

    name: str | None = option(None, "A solver, to list its options.", unset="all solvers")
