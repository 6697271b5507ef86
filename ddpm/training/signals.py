"""SIGINT and SIGTERM as the wish to stop: at once while nothing is lost by it, else when the work at hand is done."""

from __future__ import annotations

import signal
import threading


class Stopped(BaseException):
    """A signal came; like KeyboardInterrupt it is no error that others should catch."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number

    def __str__(self):
        return signal.Signals(self.number).name


class Stop:
    """In its context the first signal raises ``Stopped``, or if ``patient`` is kept in ``number``; a second raises.

    What ignores a signal, as jobs in the background do, goes on ignoring it. Other threads than the first cannot have
    handlers, and nothing changes there.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.number, self.patient = None, False
        self._before = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number, _):
        first, self.number = self.number is None, number
        if not (first and self.patient):
            raise Stopped(number)
