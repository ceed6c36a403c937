"""A progress that remembers, and waiting for what a thread writes."""

import time


class Remembering:
    """All tasks as (task, done, total, unit), those that run, and what was told."""

    def __init__(self):
        self.tasks, self.told, self.running = [], [], None

    def start(self, task, total, unit):
        assert self.running is None, "two tasks at a time"
        self.running = [task, 0, total, unit]

    def advance(self, amount):
        self.running[1] += amount

    def finish(self):
        self.tasks.append(tuple(self.running))
        self.running = None

    def report(self, task, values):
        assert values
        self.told.append((task, dict(values)))


def waited_for(found, seconds=20.0):
    """Whether a condition came true, which it does at once but on a machine that is very busy."""
    end = time.monotonic() + seconds
    while not found():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
