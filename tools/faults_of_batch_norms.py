"""Faults in the statistics of batch norms, which are taken where they are better."""

from __future__ import annotations

JUDGE = "tests/pruning/test_judge.py"
NORMS = "tests/training/test_batch_norm.py"
STAGED = "tests/pruning/test_staged.py"

FAULTS_OF_BATCH_NORMS = [
    ("pruning/judge.py", "lower(self.loss(), loss)", "self.loss()", JUDGE),
    ("pruning/judge.py", "lower(self.loss(), loss)", "loss", JUDGE),
    ("pruning/judge.py", "not math.isfinite(other) or loss < other", "loss < other", JUDGE),
    ("pruning/judge.py", "not math.isfinite(other) or loss < other", "loss > other", JUDGE),
    ("pruning/staged.py", "            put_back()", "            pass", STAGED),
    ("pruning/staged.py", "if not taken:", "if taken:", STAGED),
    ("pruning/staged.py", "taken=taken,", "", STAGED),
    ("pruning/staged.py", "before is None or after is None or lower", "lower", STAGED),
    ("pruning/staged.py", "staged.batch_norm = self._recalibrated(progress)", "pass", STAGED),
    ("training/batch_norm.py", "norm.momentum = None  # a plain average", "pass", NORMS),
    ("training/batch_norm.py", "buffer.copy_(buffers[name])", "pass", NORMS),
    ("training/batch_norm.py", "    return put_back", "    return lambda: None", NORMS),
    ("training/batch_norm.py", "{n: b.clone() for n, b in", "{n: b for n, b in", NORMS),
]  # fmt: skip
