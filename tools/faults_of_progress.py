"""Faults to seed in progress, feedback and loggers, as in `faults.py`."""

from __future__ import annotations

SHOWN, FEEDBACK = "tests/progress/test_shown.py", "tests/cli/test_feedback.py"
TASKS, LOGGER = "tests/pruning/test_progress.py", "tests/test_logger.py"

FAULTS_OF_PROGRESS = [
    ("progress/__init__.py", " if name != RUN_SECONDS_LEFT}", "}", SHOWN),
    ("progress/beat.py", "            self._call()", "            pass", SHOWN),
    ("progress/lines.py", "self._beat.stop()", "pass", SHOWN),
    ("progress/lines.py", "line, markup=False, emoji=False, highlight=False, soft_wrap=True", "line", SHOWN),
    ("progress/form.py", "isinstance(value, float) and not math.isfinite(value)", "False", SHOWN),
    ("progress/bar.py", ', Text(f"  {meanwhile(running)}")', "", SHOWN),
    ("progress/notebook.py", 'not hasattr(shell, "kernel")', "shell is None", SHOWN),
    ("progress/notebook.py", 'html.escape(f"{now.task}: {meanwhile(now)}")', 'f"{now.task}: {meanwhile(now)}"', SHOWN),
    ("progress/shown.py", " and not console.is_dumb_terminal", "", SHOWN),
    ("progress/feedback.py", "        if self.quiet:\n            return Silent()\n", "", FEEDBACK),
    ("progress/feedback.py", "        if not self.quiet:\n            say(stderr, line(\"notice\"", "        if True:\n            say(stderr, line(\"notice\"", FEEDBACK),
    ("progress/feedback.py", "warnings.showwarning = self._warn", "pass", FEEDBACK),
    ("cli/app.py", "Feedback.asked(given)", "Feedback()", FEEDBACK),
    ("cli/app.py", "with feedback.heard():", "if True:", FEEDBACK),
    ("cli/app.py", "        if not feedback.json:\n", "        if True:\n", FEEDBACK),
    ("pruning/staged.py", "            self._progress.tell(name, values)", "            pass", TASKS),
    ("pruning/layerwise.py", 'self._progress.tell(name, {"error": solved.error})', "pass", TASKS),
    ("pruning/journal.py", "stages > 1 and left != 1", "stages > 1", TASKS),
    ("training/batch_norm.py", "told.advance(nested.count(batch) or 1)", "pass", TASKS),
    ("pruning/journal.py", "if step > self._told[kind]:", "if True:", LOGGER),
    ("pruning/run.py", "        journal.log(stages=done.records)  # first: what is kept is not done again\n", "", LOGGER),
    ("pruning/gradually.py", "    journal.log(stages=done.staged.records)  # an event whose epoch diverged\n", "", LOGGER),
    ("pruning/by_layers.py", "Journal(job.logger, layers=len(run.solved))", "Journal(job.logger)", LOGGER),
    ("logger.py", "self._known = read(self._folder)", "self._known = {}", LOGGER),
    ("logger.py", "not _same(known, value)", "False", LOGGER),
    ("logger.py", "            path.rmdir()\n", "            pass\n", LOGGER),
]  # fmt: skip
