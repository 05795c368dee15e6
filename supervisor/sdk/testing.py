"""An in-memory plugind for the tests of a plugin: the real protocol over a socket pair, nothing stored, no process.

    def test_forecast():
        with Harness(plugin, config={"city": "Oslo"}, secrets={"token": "t"}) as h:
            assert h.run_job("refresh") is None
            assert h.call("forecast", city="Oslo") == {"degrees": 4}
            assert h.events == [("forecast", {"degrees": 4})]

Handlers run as they do in a worker, in threads and in an event loop of their own: a plain test function is all that is
needed, whether they are async or not. What they did is in `h.state`, `h.events`, `h.logs`, `h.metrics`, `h.progress`.

- Other plugins are a map of functions: `Harness(plugin, plugins={"acme.db": {"query": lambda sql: []}})`.
- `h.publish("plugin.enabled", {…}, plugin="acme.db")` is an event for `@plugin.on_event`; `h.wait_until(lambda: …)`
  waits until what it led to has come to plugind.
- `h.validate_config({…})` is what `@plugin.validate_config` has against it; `h.change_config({…})` gives the worker
  another configuration. `secrets` are in both and in `ctx.config`, unless `secrets.read` is not granted.
- `h.state` counts revisions: a change that a test makes to it is one that the worker's `if_revision` sees.
- `h.capabilities` is the gate: `Harness(plugin, capabilities=["state.read"])` grants only that one.
- `h.run_job("refresh", params={"city": "Oslo"})` is a run by hand with `ctx.params`.
- `run = h.start_job("slow")`, then `run.cancel()`, as plugind cancels a run, and `run.result()`.
- `h.run_job("slow", timeout_s=0.1)` gives up like plugind does on a run that takes too long.
- After the block `h.exit_code` is what the process would have exited with; `h.wait_exit()` waits for a worker that
  ends by itself, such as by a background task that raises.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

from supervisor.sdk.connection import Connection
from supervisor.sdk.memory import ALL_CAPABILITIES, LogLine, OtherPlugins
from supervisor.sdk.memory_host import Host
from supervisor.sdk.plugin import Plugin
from supervisor.sdk.serving import Worker
from supervisor.sdk.started import Started
from supervisor.wire.limits import WORKER

__all__ = ["ALL_CAPABILITIES", "Harness", "Host", "LogLine", "Started"]


class Harness(Host):
    """A plugin served in this process: enter it to shake hands, leave it to shut down."""

    def __init__(
        self,
        plugin: Plugin,
        *,
        manifest: Mapping[str, Any] | None = None,
        key: str = "test.plugin",
        config: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
        secrets: Mapping[str, Any] | None = None,
        plugins: OtherPlugins | None = None,
        capabilities: Iterable[str] = ALL_CAPABILITIES,
        data_dir: str | os.PathLike[str] | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        where = os.fspath(data_dir) if data_dir else tempfile.mkdtemp(prefix="plugin-")
        # Also for one that is never entered.
        self._clean_up = None if data_dir else weakref.finalize(self, shutil.rmtree, where, ignore_errors=True)
        super().__init__(
            key=key,
            config=config,
            state=state,
            secrets=secrets,
            plugins=plugins,
            capabilities=capabilities,
            data_dir=where,
            timeout_s=timeout_s,
        )
        self._plugin = plugin
        self._manifest = manifest
        self._worker_thread: threading.Thread | None = None
        self.exit_code: int | None = None
        """What the worker's process would have exited with, once it has ended."""

    def __enter__(self) -> Harness:
        if self._worker_thread is not None:
            raise RuntimeError("a harness is entered only once: make a new Harness(plugin) for each block")
        ours, theirs = socket.socketpair()
        end = Connection(theirs.detach(), WORKER)
        self._worker = Worker(self._plugin, end, default_key=self.key, default_data_dir=self.data_dir)
        self._worker_thread = threading.Thread(target=self._serve_worker, args=(end,), name="worker", daemon=True)
        self.attach(ours)
        self._worker_thread.start()
        try:
            self.initialize(self._manifest)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self.exit_code is None:
                self.shutdown()
        finally:
            self._end()

    def wait_exit(self, timeout_s: float | None = None) -> int:
        """Wait for a worker that ends by itself; its exit code.

        Raises:
            TimeoutError: it did not end.
        """
        self._must_be_entered().join(self.timeout_s if timeout_s is None else timeout_s)
        if self.exit_code is None:
            raise TimeoutError("the worker has not ended")
        return self.exit_code

    def _serve_worker(self, end: Connection) -> None:
        code = self._worker.serve()
        end.flush_last()
        end.close()
        self.exit_code = code

    def _must_be_entered(self) -> threading.Thread:
        if self._worker_thread is None:
            raise RuntimeError(
                "no worker is served yet: use the harness inside its block, with Harness(plugin) as h: …"
            )
        return self._worker_thread

    def _end(self) -> None:
        self.close()
        self._must_be_entered().join()
        if self._clean_up:
            self._clean_up()
