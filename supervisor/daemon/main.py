"""The plugind command, up to the imports that take long: Ctrl-C during them ends it without a traceback."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

import supervisor

EXIT_REFUSED = 3
EXIT_INTERRUPTED = 130
_MIXED = (
    "plugind: supervisord is installed in this environment too, and has replaced a file of plugind's package "
    "`supervisor`: give plugind a virtual environment of its own"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon, or the demo; returns the exit code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Not by an exception: the import system prints those that meet it in a callback. There is nothing to undo yet.
        signal.signal(signal.SIGINT, lambda *_: os._exit(EXIT_INTERRUPTED))
    if not getattr(supervisor, "PLUGIND", False):
        print(_MIXED, file=sys.stderr)
        return EXIT_REFUSED
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments[:1] == ["demo"]:
        from supervisor.daemon.demo import main as demo_main

        return demo_main(arguments[1:])
    from supervisor.daemon.command import main as daemon_main

    return daemon_main(arguments)


if __name__ == "__main__":
    sys.exit(main())
