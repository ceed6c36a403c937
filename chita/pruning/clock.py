"""How long the phases of a run take, and how much memory they come to."""

from __future__ import annotations

import time
from typing import final

from chita.records import peak_rss_mb


@final
class Clock:
    """Adds up the seconds of phases, which follow each other, and notes the peak of memory.

    Fields: `seconds` by phase; `memory_mb`, the peak of resident memory that the process had come
    to by the end of each, in MB, without those of systems that do not tell.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.memory_mb: dict[str, float] = {}
        self._last = time.perf_counter()

    def stop(self, phase: str) -> None:
        """The phase that ran until now."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        peak = peak_rss_mb()
        if peak is not None:
            self.memory_mb[phase] = peak
        self._last = now
