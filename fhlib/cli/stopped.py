"""Run a command so that what stops it from outside, a signal or a full disk, is told in one line."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from types import FrameType


class _Stopped(KeyboardInterrupt):
    """Ctrl-C, SIGTERM, or a terminal that was closed."""


def told(options: argparse.Namespace) -> int:
    """Run `options.call`; returns the exit code."""

    def stop(number: int, frame: FrameType | None) -> None:
        if _imports(frame):  # libraries take what is raised here for a fault of theirs; nothing has begun
            os._exit(_say_stopped(number, options))
        raise _Stopped(number)

    heard = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        usual = (signal.SIG_DFL, signal.default_int_handler)
        heard = {number: signal.signal(number, stop) for number in numbers if signal.getsignal(number) in usual}
    try:
        code: int = options.call(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader has left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as error:
        return _say_stopped(error.args[0] if isinstance(error, _Stopped) else signal.SIGINT, options)
    except (OSError, RuntimeError) as error:
        return _told_error(error)
    finally:
        for number, before in heard.items():
            signal.signal(number, before)


def _imports(frame: FrameType | None) -> bool:
    """Whether a signal came while a module was being imported."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _say_stopped(number: int, options: argparse.Namespace) -> int:
    again = getattr(options, "again", "") or "type the same command again"
    print(f"\nstopped ({signal.Signals(number).name}); to continue: {again}", file=sys.stderr, flush=True)
    return 128 + number


def _told_error(error: Exception) -> int:
    """Say that another process is at work, or that a disk is full; raises any other error. Returns the exit code."""
    from fhlib.files import DATA, BusyError, disk_full

    if isinstance(error, BusyError):
        print(error, file=sys.stderr)
        return 2
    full = disk_full(error, DATA) if isinstance(error, OSError) else None
    if full is None:
        raise error
    print(full, file=sys.stderr)
    return 1
