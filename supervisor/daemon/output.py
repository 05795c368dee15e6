"""Standard output whose reader may leave at any time, as in `plugind --check | head -1`."""

from __future__ import annotations

import os
import sys


def write_out(text: str) -> bool:
    """Print a line. Nobody there to read it is no error; else it is told on stderr, and False returned."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        mute_stdout()
    except OSError as error:
        mute_stdout()
        print(f"plugind: cannot write to standard output: {error.strerror}", file=sys.stderr)
        return False
    return True


def mute_stdout() -> None:
    """From now on it goes nowhere; else Python complains of what is still buffered as it flushes at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
