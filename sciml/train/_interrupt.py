"""Ctrl-C as a request that is granted between two steps."""

import signal
import sys
import threading
from types import FrameType, TracebackType


class InterruptRequest:
    """While active, the first Ctrl-C sets `requested`; a second one interrupts at once.

    A step that is cut in the middle has given its buffers away and cannot be saved. Threads other
    than the main one cannot receive signals, and a handler that the program set itself is left in
    place; in both cases nothing changes.
    """

    def __init__(self):
        self.requested = False
        self._previous = None

    def __enter__(self) -> "InterruptRequest":
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        sys.stderr.write("\nStopping after this step; press Ctrl-C again to stop at once.\n")
