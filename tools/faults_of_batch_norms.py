"""Faults in the statistics of batch norms, which are taken where they are better."""

from __future__ import annotations

JUDGE = "tests/pruning/test_judge.py"
NORMS = "tests/training/test_batch_norm.py"
STAGED = "tests/pruning/test_staged.py"
STATISTICS = "tests/pruning/test_statistics.py"
GRADUAL = "tests/pruning/test_gradual.py"

FAULTS_OF_BATCH_NORMS = [
    ("pruning/judge.py", "lower(self.loss(), loss)", "self.loss()", JUDGE),
    ("pruning/judge.py", "lower(self.loss(), loss)", "loss", JUDGE),
    ("pruning/judge.py", "not math.isfinite(other) or loss < other", "loss < other", JUDGE),
    ("pruning/judge.py", "not math.isfinite(other) or loss < other", "loss > other", JUDGE),
    ("pruning/statistics.py", "        put_back()", "        pass", STATISTICS),
    ("pruning/statistics.py", "if not taken:", "if taken:", STATISTICS),
    ("pruning/statistics.py", "taken=taken,", "", STATISTICS),
    ("pruning/statistics.py", "before is None or after is None or (math", "(math", STAGED),
    ("pruning/statistics.py", "math.isfinite(after) and ", "", STATISTICS),
    ("pruning/statistics.py", "not after > before", "after < before", STATISTICS),
    ("pruning/staged.py", "if self._normal is not None:", "if False:", STAGED),
    ("pruning/staged.py", "                Staged(mask=mask),\n", "", GRADUAL),
    ("pruning/by_layers.py", "if self._normal is not None:", "if False:", STATISTICS),
    ("pruning/by_layers.py", "held_out=len(self._judge) if self._judge else 0,", "", STATISTICS),
    ("pruning/by_layers.py", "job.sampling.validation or _tells(judge)", "True", STATISTICS),
    ("pruning/by_layers.py", "job.sampling.validation or _tells(judge)", "_tells(judge)", STATISTICS),
    ("training/batch_norm.py", "norm.momentum = None  # a plain average", "pass", NORMS),
    ("training/batch_norm.py", "norm.momentum = momentum", "pass", NORMS),
    ("training/batch_norm.py", "buffer.copy_(given[name])", "pass", NORMS),
    ("training/batch_norm.py", "return lambda: _write(norms, before)", "return lambda: None", NORMS),
    ("training/batch_norm.py", "{name: tensor.clone() for name", "{name: tensor for name", NORMS),
    ("training/batch_norm.py", "    with state_kept(model):\n        for", "    if True:\n        for", NORMS),
    ("training/batch_norm.py", "    _check_finite(model, norms, fresh)\n", "", NORMS),
]  # fmt: skip
