"""`chita apply`: a saved mask on another checkpoint."""

from __future__ import annotations

import time

from chita.cli import options as opt
from chita.cli.feedback import Feedback, LogFormat
from chita.cli.session import masks_for, open_session, run
from chita.cli.settings import ApplySettings, merge_settings
from chita.cli.show import show
from chita.errors import InputError
from chita.exports.run_folder import check_target
from chita.pruning.refit import apply_masks


def apply(
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
    device: opt.Device = None,
    out: opt.Out = None,
    force: opt.Force = None,
    config: opt.Config = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    log_format: opt.LogFormat = LogFormat.TEXT,
) -> None:
    """Set to zero what a mask removes, change nothing else, and measure it."""
    began = time.perf_counter()
    settings = merge_settings(ApplySettings, config, locals())
    if settings.mask is None:
        raise InputError("There is no mask. Give a file of masks with --mask.")
    if settings.out:
        check_target(settings.out, force=settings.force)
    feedback = Feedback(quiet=quiet, log_format=log_format)
    session = open_session(settings, feedback=feedback, needs_data=False)
    masks = masks_for(session, settings.mask)
    record = run(
        session,
        lambda: apply_masks(session.network, masks),
        settings,
        began=began,
    )
    show(record, feedback, as_json=as_json, out=settings.out)
