"""`chita refit`: the best weights for a given mask."""

from __future__ import annotations

import time

from chita.cli import options as opt
from chita.cli.feedback import Feedback, LogFormat
from chita.cli.session import check_rows, masks_for, open_session, run
from chita.cli.settings import RefitSettings, merge_settings
from chita.cli.show import show
from chita.errors import InputError
from chita.exports.run_folder import check_target
from chita.pruning.refit import refit as refit_network


def refit(
    mask: opt.Mask = None,
    model: opt.Model = None,
    weights: opt.Weights = None,
    allow_pickle: opt.AllowPickle = None,
    data: opt.Data = None,
    data_dir: opt.DataDir = None,
    image_size: opt.ImageSize = None,
    image_mean: opt.ImageMean = None,
    image_std: opt.ImageStd = None,
    length: opt.Length = None,
    loss: opt.Loss = None,
    labels: opt.Labels = None,
    device: opt.Device = None,
    rows: opt.Rows = None,
    row_size: opt.RowSize = None,
    rows_dtype: opt.RowsDtype = None,
    held_out: opt.HeldOut = None,
    fisher: opt.Fisher = None,
    ridge: opt.Ridge = None,
    first_order: opt.FirstOrder = None,
    step: opt.Step = None,
    fisher_blocks: opt.FisherBlocks = None,
    seed: opt.Seed = None,
    row_indices: opt.RowIndices = None,
    bn_recalibrate: opt.BnRecalibrate = None,
    out: opt.Out = None,
    force: opt.Force = None,
    config: opt.Config = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    log_format: opt.LogFormat = LogFormat.TEXT,
) -> None:
    """Give the weights that a mask keeps their best values; --weights are those before the mask."""
    began = time.perf_counter()
    settings = merge_settings(RefitSettings, config, locals())
    if settings.mask is None:
        raise InputError("There is no mask. Give a file of masks with --mask.")
    check_rows(settings)
    if settings.out:
        check_target(settings.out, force=settings.force)
    arguments = settings.row_arguments()
    feedback = Feedback(quiet=quiet, log_format=log_format)
    session = open_session(settings, feedback=feedback)
    if session.calibration is None:
        raise InputError(f"{settings.model} has no data of its own. Give them with --data.")
    masks = masks_for(session, settings.mask)
    calibration = session.calibration
    record = run(
        session,
        lambda: refit_network(
            session.network,
            calibration,
            masks,
            **arguments,
            loss=session.loss,
            progress=session.progress,
        ),
        settings,
        began=began,
    )
    show(record, feedback, as_json=as_json, out=settings.out)
