"""Where the time of a stage goes."""

from __future__ import annotations

import time
from typing import final


@final
class Clock:
    """Adds up the `seconds` of phases, which follow each other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def stop(self, phase: str) -> None:
        """The phase that ran until now."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self._last = now
