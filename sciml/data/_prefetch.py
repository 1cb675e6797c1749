"""Batches that a thread makes ahead of the training that takes them."""

import atexit
import collections
import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from jaxtyping import Int

from ..core import check_count
from ._batch_part import BatchPart
from ._windows import Window, WindowBatches


class PrefetchedBatches:
    """The batches of `WindowBatches`, the next few of which a thread makes ahead.

    They are the same batches in the same order, and any step can be asked for; what was made ahead
    serves when steps are taken one after the other, as `fit` does. The thread starts with the first
    batch that is taken. It ends with `release`, which `fit` calls at its end, whatever that is,
    when this object is collected, and when the program ends; the next batch starts another one.

    Parameters
    ----------
    batches
        What is made ahead. Its ``transform`` is called in the thread.
    prefetch
        How many batches are held ahead, at most.
    opened
        Called in the thread for a context in which it works, for instance an open file.

    Raises
    ------
    ValueError
        If ``prefetch`` is not at least 1.

    Examples
    --------
    >>> import numpy as np
    >>> from sciml.data import FieldDataset
    >>> data = FieldDataset.from_array(np.zeros((6, 20, 1, 8)), dt=0.5, domain_extent=1.0)
    >>> batches = PrefetchedBatches(data.windows(3, 5, batch_size=2, seed=11))
    >>> batches[0].inputs.shape
    (2, 3, 1, 8)
    >>> batches.release()
    """

    def __init__(
        self,
        batches: WindowBatches | BatchPart,
        *,
        prefetch: int = 3,
        opened: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
    ):
        self.batches = batches
        self._depth = check_count("prefetch", prefetch)
        self._opened = opened
        self._worker: _Worker | None = None

    @property
    def batch_size(self) -> int:
        """Samples of a batch."""
        return self.batches.batch_size

    def for_positions(self, positions: Int[np.ndarray, " part"]) -> "PrefetchedBatches | None":
        """Return the batches of which only these positions are read, ahead as well.

        None if they cannot be read in parts, see `WindowBatches.for_positions`.
        """
        part = self.batches.for_positions(positions)
        if part is None:
            return None
        self.release()  # what was made ahead here is not asked for any more
        return PrefetchedBatches(part, prefetch=self._depth, opened=self._opened)

    @property
    def steps_per_epoch(self) -> int:
        """Batches until every sample has been used, rounded up."""
        return self.batches.steps_per_epoch

    def describe(self, step: int) -> str:
        """Say which samples and start times batch ``step`` holds, for error messages."""
        return self.batches.describe(step)

    def __getitem__(self, step: int) -> Window:
        """Return batch ``step``, or raise what the thread met when it made it.

        Raises
        ------
        DataFileError
            If the file is gone, changed or damaged; the message names it.
        """
        step = check_count("step", step, minimum=0)
        worker = self._worker
        # Threads do not survive a fork, and their locks may be held for ever in the child.
        if worker is None or worker.process != os.getpid() or not worker.is_next(step):
            self.release()
            worker = _Worker(self.batches, step, self._depth, self._opened)
            # Only a word to the thread: to wait for it in the midst of a collection, which may
            # come when this thread holds the lock of HDF5, could be for ever.
            weakref.finalize(self, worker.stop).atexit = False
            # Last in, first out: before h5py, which was imported since, takes down what reads use.
            atexit.unregister(_end_all)
            atexit.register(_end_all)
            worker.thread.start()
            self._worker = worker
        try:
            batch, error = worker.take()
        except BaseException:  # Ctrl-C: it may have taken the batch that it does not give
            self.release()
            raise
        if error is not None:
            self.release()
            raise error
        return batch

    def __iter__(self) -> Iterator[Window]:
        """Yield batch 0, 1, 2, ... without end."""
        step = 0
        while True:
            yield self[step]
            step += 1

    def release(self) -> None:
        """End the thread, and let go of the file and of what was made ahead."""
        worker, self._worker = self._worker, None
        if worker is not None and worker.process == os.getpid():
            worker.stop()
            worker.thread.join()


class _Worker:
    """The thread and what it shares; it does not know the `PrefetchedBatches` that it serves."""

    def __init__(
        self,
        source: WindowBatches | BatchPart,
        first: int,
        depth: int,
        opened: Callable[[], AbstractContextManager[Any]],
    ):
        self.process = os.getpid()
        self._source, self._depth, self._opened = source, depth, opened
        self._next_taken = first
        self._made: collections.deque[tuple[Any, BaseException | None]] = collections.deque()
        self._stopped = False
        self._changed = threading.Condition()
        # A daemon, because Python waits for other threads before it tells anyone that it ends.
        self.thread = threading.Thread(target=self._run, name="sciml-prefetch", daemon=True)
        _workers.add(self)

    def is_next(self, step: int) -> bool:
        """Return whether ``step`` is what `take` gives."""
        return step == self._next_taken and not self._stopped

    def take(self) -> tuple[Any, BaseException | None]:
        """Wait for the next batch, or for the reason why there is none."""
        with self._changed:
            self._changed.wait_for(lambda: self._made)
            made = self._made.popleft()
            self._next_taken += 1
            self._changed.notify_all()
        return made

    def stop(self) -> None:
        """Tell the thread to end after the batch that it makes."""
        with self._changed:
            self._stopped = True
            self._made.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        step = self._next_taken
        try:
            with self._opened():
                while self._has_room():
                    self._put(self._source[step], None)
                    step += 1
        # Whatever it is, whoever waits for the batch must hear of it.
        except BaseException as error:
            self._put(None, error)

    def _has_room(self) -> bool:
        """Wait until one more batch may be made; return False at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or len(self._made) < self._depth)
            return not self._stopped

    def _put(self, batch: Any, error: BaseException | None) -> None:
        with self._changed:
            if not self._stopped:
                self._made.append((batch, error))
            self._changed.notify_all()


_workers: weakref.WeakSet[_Worker] = weakref.WeakSet()


def _end_all() -> None:
    # A thread that reads while the program ends takes it down with a segmentation fault.
    for worker in list(_workers):
        if worker.process == os.getpid() and worker.thread.is_alive():
            worker.stop()
            worker.thread.join()
