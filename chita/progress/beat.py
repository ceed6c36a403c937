"""Something done again and again while other work goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import final


@final
class Beat:
    """Calls a function every `period` seconds, on a thread of its own, until it is stopped."""

    def __init__(self, call: Callable[[], None], period: float) -> None:
        self._call, self._period = call, period
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Call it no more: none is under way when this returns."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._period):
            self._call()
