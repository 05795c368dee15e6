"""Where the program `pluginctl` begins: Ctrl-C ends it without a word, also while the rest of it is imported."""

from __future__ import annotations

import os
import signal
import sys

INTERRUPTED = 130


def main() -> int:
    """As `client.cli.main.main`."""
    # Left alone where it is ignored, as by nohup(1).
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heard:
        signal.signal(signal.SIGINT, _end)
    from client.cli import main as rest

    try:
        if heard:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return rest.main()
    except KeyboardInterrupt:
        return INTERRUPTED  # between its commands and here
    finally:
        if heard:
            signal.signal(signal.SIGINT, _end)


def _end(*_: object) -> None:
    """At once, since neither imports nor Python's own end stand an exception."""
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
