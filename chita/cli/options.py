"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chita.cli.feedback import LogFormat as Format

Model = Annotated[
    str | None,
    typer.Option(
        help="Network: a name of `chita models`, torchvision:NAME, timm:NAME, hf:PATH_OR_ID, or "
        "your own package.module:function that returns one. [default: digits-mlp]"
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(help="Checkpoint or run folder. [default: the weights the network comes with]"),
]
AllowPickle = Annotated[
    bool | None,
    typer.Option(
        "--allow-pickle",
        help="Unpickle foreign objects in --weights. This runs code stored in the file.",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="digits, mnist; a folder or zip of images in class folders; text (.txt, .jsonl, or a "
        "folder with train.txt or valid.txt and test.txt; or datasets:FOLDER_OR_ID of Hugging "
        "Face); a file of tensors (.npz, .pt, .safetensors); or package.module:function that "
        "returns (calibration, evaluation). "
        "[default: the network's own]"
    ),
]
DataDir = Annotated[Path | None, typer.Option(help="Folder of a named data set. [default: here]")]
ImageSize = Annotated[
    int | None, typer.Option(help="Side of images in pixels. [default: the network's, or as is]")
]
ImageMean = Annotated[
    str | None, typer.Option(help="Mean of the channels, of pixels in 0 to 1: 0.5,0.5,0.5.")
]
ImageStd = Annotated[str | None, typer.Option(help="Standard deviation of the channels.")]
Length = Annotated[
    int | None,
    typer.Option(
        help="Tokens of a sequence, of text for a network hf:PATH. [default: 128 at most]"
    ),
]
Loss = Annotated[
    str | None,
    typer.Option(
        help="cross_entropy, nll, mse, model (what the network returns for a dict), or "
        "package.module:function of (model, batch). [default: by the batches]"
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(help="data, or model: drawn from the network (true Fisher). [default: data]"),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ... [default: cpu]")]
Sparsity = Annotated[float | None, typer.Option(help="Share of the weights to remove, in [0, 1).")]
Sparsities = Annotated[
    str | None,
    typer.Option(
        help="Shares of a tensor to remove, each in [0, 1): 0.5,0.8,0.9. [default: "
        "0.5,0.7,0.8,0.9,0.95]"
    ),
]
Nnz = Annotated[int | None, typer.Option(help="Weights to keep, instead of --sparsity.")]
Megabytes = Annotated[
    float | None,
    typer.Option(
        help="Millions of bytes that the kept weights take at most, stored as values and a bit for "
        "each place; instead of --sparsity."
    ),
]
MinKeep = Annotated[
    int | None, typer.Option(help="Weights kept at least in every tensor. [default: 1]")
]
Pattern = Annotated[
    str | None,
    typer.Option(help="N:M, N weights kept of every M along the inputs: 2:4. No other budget."),
]
BlocksOf = Annotated[
    str | None,
    typer.Option(
        "--blocks",
        help="Blocks of outputs x inputs, kept or removed whole: 4x1, 1x4. With --sparsity.",
    ),
]
PerLayer = Annotated[
    str | None,
    typer.Option(
        help="How --sparsity is distributed: uniform or erk over tensors, rows over all outputs "
        "alike, owl by outliers (layer by layer); or a CSV file of tensor,sparsity, without "
        "--sparsity. search measures the loss of several levels of every tensor, and takes the "
        "best under any budget of weights, bytes or FLOPs; so does a CSV file of "
        "tensor,sparsity,loss."
    ),
]
Flops = Annotated[
    float | None,
    typer.Option(
        help="Share of the dense FLOPs that remains at most, in (0, 1]; with --sparsity, --nnz or "
        "--megabytes at most so many weights, too."
    ),
]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        help="Prune only what this matches: a name, a glob, re:PATTERN or a type such as Linear; "
        "may be repeated. [default: all but embeddings]"
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(help="Leave untouched what this matches, as in --targets; may be repeated."),
]
Method = Annotated[str | None, typer.Option(help="As listed by `chita methods`. [default: chita]")]
Option = Annotated[
    list[str] | None, typer.Option(help="name=value for the method; may be repeated.")
]
Rows = Annotated[
    int | None,
    typer.Option(help="Gradients to collect in a stage, n. [default: 1000, or what the data give]"),
]
RowSize = Annotated[int | None, typer.Option(help="Samples averaged in a row, m. [default: 1]")]
RowsDtype = Annotated[
    str | None,
    typer.Option(
        help="Type in which rows are kept: float32, bfloat16, float16. [default: that of the "
        "weights, float32 at least]"
    ),
]
HeldOut = Annotated[
    int | None,
    typer.Option(
        help="Samples that make no row, by whose loss auto chooses. [default: half as many as "
        "those of a stage's rows, at most 2000 and a fifth of the data]"
    ),
]
Fisher = Annotated[
    str | None,
    typer.Option(
        help="empirical, or improved: every row over its error at the outputs. [default: auto, "
        "improved where the loss compares outputs with targets]"
    ),
]
Ridge = Annotated[
    str | None,
    typer.Option(
        help="λ, a multiple of the mean curvature such as 0.1x, or auto: by held-out loss. "
        "[default: auto]"
    ),
]
FirstOrder = Annotated[
    str | None,
    typer.Option(help="Scale of the first-order term, 0 for none, or auto. [default: auto]"),
]
Step = Annotated[
    str | None,
    typer.Option(
        help="Share of the way to the solution, in [0, 1], or auto; 0 takes the mask alone. "
        "[default: auto]",
    ),
]
FisherBlocks = Annotated[
    str | None,
    typer.Option(
        help="whole, or outputs: the Fisher between weights of one output alone. [default: auto, "
        "by held-out loss where ridge is]",
    ),
]
Stages = Annotated[
    int | None,
    typer.Option(help="Rounds of pruning, each with fresh rows. [default: 1]"),
]
Schedule = Annotated[
    str | None,
    typer.Option(
        help="How sparsity grows over stages: exp, poly, linear, constant, geometric, or the "
        "sparsities themselves: 0.5,0.8,0.9. [default: exp]"
    ),
]
Gradual = Annotated[
    Path | None,
    typer.Option(
        help="TOML file of settings, as --config, with a table [training] (epochs, events, rate "
        "and more: help(chita.Training)): prune in events and train between them."
    ),
]
Train = Annotated[
    list[str] | None,
    typer.Option("--train", help="name=value for the table [training]; may be repeated."),
]
Layerwise = Annotated[
    bool | None,
    typer.Option(
        "--layerwise/--no-layerwise",
        help="Prune layer by layer, each so that its outputs change least. [default: as the method "
        "does: alps, obc, sparsegpt and wanda do nothing else]",
        show_default=False,
    ),
]
MaxMemory = Annotated[
    float | None,
    typer.Option(
        help="Megabytes of activations kept in memory with --layerwise; more go to files. "
        "[default: half of what is free]"
    ),
]
Regrow = Annotated[
    bool | None,
    typer.Option(
        "--regrow/--no-regrow",
        help="Whether a weight that one stage removes may be kept by a later one. [default: "
        "regrow]",
        show_default=False,
    ),
]
EarlierRows = Annotated[
    int | None,
    typer.Option(
        help="Stages whose rows tell the next ones of the curvature too: more memory and time of "
        "solves, no more gradients. [default: 0]"
    ),
]
BnRecalibrate = Annotated[
    bool | None,
    typer.Option(
        "--bn-recalibrate/--no-bn-recalibrate",
        help="Estimate the statistics of batch norms anew, from 2000 samples, and take them "
        "unless the held-out loss, if any, is higher for it. [default: bn-recalibrate]",
        show_default=False,
    ),
]
Resume = Annotated[
    bool | None,
    typer.Option(
        "--resume", help="Go on after the last finished stage of a run to --out that was killed."
    ),
]
Seed = Annotated[int | None, typer.Option(help="Of the draw of samples. [default: 0]")]
RowIndices = Annotated[
    Path | None,
    typer.Option(help="File of sample indices, one a line, instead of --seed and --rows."),
]
Mask = Annotated[
    Path | None,
    typer.Option(
        help="Run folder or its masks.safetensors, a checkpoint with weight_mask buffers, or one "
        "whose zeros are the mask."
    ),
]
Bound = Annotated[
    bool | None,
    typer.Option("--bound", help="Also prove how low the objective can be at all."),
]
Out = Annotated[Path | None, typer.Option(help="Run folder to write.")]
Force = Annotated[
    bool | None, typer.Option("--force", help="Replace the run folder --out if it exists.")
]
Config = Annotated[
    Path | None, typer.Option(help="TOML file of these settings; the command line wins.")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object, alone on standard output.")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", help="Show no progress and no notices, only results and errors.")
]
LogFormat = Annotated[
    Format,
    typer.Option(
        help="Of progress, notices and errors on standard error: text, or json, one object a line."
    ),
]
TensorBoard = Annotated[
    Path | None,
    typer.Option(
        "--tensorboard",
        help="Folder for TensorBoard: the numbers of every stage, epoch and layer. Needs the extra "
        "tensorboard.",
    ),
]
