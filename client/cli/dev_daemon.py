"""The private daemon of `pluginctl dev`: a child that ends when we do, however that comes."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time

from client.errors import Unavailable

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import Any, Self

_START_S = 30.0
_STOP_S = 20.0
"""Its drain, the stop of the worker, and room."""


class PrivateDaemon:
    """Use it in a `with`: entered, it answers; left, it has ended, and has taken its directory with it.

    Raises:
        Unavailable: it did not come up; the message says why.
    """

    def __init__(self, *, keep: bool) -> None:
        self._keep = ["--keep"] if keep else []
        self.socket = ""
        self.directory = ""
        self.pid = 0

    def __enter__(self) -> Self:
        # -P: what stands in the plugin's directory is not to be taken for our modules. A session of its own: Ctrl-C
        # is for us, and we end it in order.
        command = [sys.executable, "-P", "-m", "supervisor.daemon.private", *self._keep]
        stdin, self._held = os.pipe()
        self._said, stdout = os.pipe()
        try:
            self._process = subprocess.Popen(command, stdin=stdin, stdout=stdout, start_new_session=True, cwd="/")
        finally:
            os.close(stdin)
            os.close(stdout)
        try:
            told = self._first_word()
        except BaseException:
            self.close()
            raise
        self.socket, self.directory, self.pid = told["socket"], told["directory"], told["pid"]
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _first_word(self) -> dict[str, Any]:
        deadline, said = time.monotonic() + _START_S, b""
        while not said.endswith(b"\n"):
            ready, _, _ = select.select([self._said], [], [], max(deadline - time.monotonic(), 0))
            data = os.read(self._said, 65536) if ready else b""
            if not data:
                why = "it ended without a word" if ready else f"it did not come up within {_START_S:g} s"
                raise Unavailable(f"the private plugind cannot be started: {why}", socket="")
            said += data
        told: dict[str, Any] = json.loads(said)
        if "error" in told:
            raise Unavailable(f"the private plugind cannot be started: {told['error']}", socket="")
        return told

    def wait_ended(self) -> None:
        """Until it says no more, which is its end; for a thread."""
        while os.read(self._said, 65536):
            pass  # After its first word there is nothing to hear.

    def hurry(self) -> None:
        """Asked to stop once more: it drains no longer. May be called by a signal handler."""
        self._process.terminate()

    def close(self) -> None:
        """Let it end in order; one that does not is hurried, and killed at last."""
        os.close(self._held)
        for act in (self._process.terminate, self._process.terminate, self._process.kill):
            try:
                self._process.wait(_STOP_S)
                return
            except subprocess.TimeoutExpired:
                act()
        self._process.wait()
