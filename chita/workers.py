"""Work in processes of its own, several at a time."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any, TypeVar

import torch

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


def each_done(
    tasks: Sequence[_Task],
    work: Callable[..., _Result],
    arguments: Callable[[_Task], tuple[Any, ...]],
    jobs: int,
) -> Generator[tuple[_Task, _Result]]:
    """Iterate over tasks as they are done, with the result of each.

    Every task has a new process, so that a peak of memory is that of one task; the processes of one
    time share the threads that this one would use, and end when it ends or the iterator is closed.

    Args:
        tasks: in the order in which they begin.
        work: a function of a module, as other processes import it.
        arguments: of a task, for `work`; asked for when the task begins.
        jobs: tasks at a time.

    Raises `BrokenProcessPool` where a process was killed.
    """
    with ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(max(1, torch.get_num_threads() // jobs),),
        max_tasks_per_child=1,
    ) as pool:
        try:
            waiting: dict[Future[_Result], _Task] = {}
            queue = list(tasks)
            while queue or waiting:
                while queue and len(waiting) < jobs:
                    task = queue.pop(0)
                    waiting[pool.submit(work, *arguments(task))] = task
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield waiting.pop(future), future.result()
        except BaseException:
            for process in list((pool._processes or {}).values()):
                process.terminate()
            pool.shutdown(cancel_futures=True)
            raise


def _begin(threads: int) -> None:
    """Compute with a share of the threads, and end when the program is killed."""
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
