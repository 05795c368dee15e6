"""The private daemon of `pluginctl dev`: a child that ends when we do, however that comes."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from client.errors import Unavailable

if TYPE_CHECKING:
    from typing import Self

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
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, cwd="/"
        )
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
        assert self._process.stdout is not None
        deadline, said = time.monotonic() + _START_S, b""
        while not said.endswith(b"\n"):
            ready, _, _ = select.select([self._process.stdout], [], [], max(deadline - time.monotonic(), 0))
            data = self._process.stdout.read1() if ready else b""
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
        assert self._process.stdout is not None
        try:
            while self._process.stdout.read1():
                pass  # After its first word there is nothing to hear.
        except (OSError, ValueError):
            return  # Closed by us.

    def close(self) -> None:
        """Let it end in order; one that does not is hurried, and killed at last."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        for act in (self._process.terminate, self._process.terminate, self._process.kill):
            try:
                self._process.wait(_STOP_S)
                return
            except subprocess.TimeoutExpired:
                act()
        self._process.wait()
