"""A file of an installed package is changed: its worker does not start, and the plugin says which file it was."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Daemon, Refused, Rpc

Copy = Callable[[str], Path]


def installed(rpc: Rpc, source: Path) -> tuple[str, Path]:
    """The key of a plugin that runs, and where its package is."""
    loaded = rpc.load(source)
    return loaded["key"], Path(rpc.call("plugins.get", plugin=loaded["key"])["package_dir"])


def tamper(package: Path) -> bytes:
    """As somebody who covers his tracks; returns what it was."""
    file = package / "main.py"
    before, content = file.stat(), file.read_bytes()
    file.write_bytes(content.replace(b"import", b"IMPORT", 1))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    return content


def in_error(rpc: Rpc, key: str) -> Any:
    return rpc.call("plugins.wait", plugin=key, status="error", timeout_s=20)


def test_a_restart_of_a_changed_package_fails_at_once(daemon: Daemon, plugin: Copy) -> None:
    with daemon.start() as rpc:
        key, package = installed(rpc, plugin("good"))
        content = tamper(package)
        with pytest.raises(Refused, match=r"ACTIVATION_FAILED.*'main.py' in its package .* its content is another"):
            rpc.call("plugins.restart", plugin=key)
        seen = in_error(rpc, key)
        assert "'main.py' in its package" in seen["last_error"]
        assert (seen["pid"], seen["last_reason"]) == (None, "package_changed")
        with pytest.raises(Refused, match=r"ACTIVATION_FAILED.*'main.py'"):
            rpc.call("plugins.enable", plugin=key)
        (package / "main.py").write_bytes(content)
        assert rpc.call("plugins.enable", plugin=key)["status"] == "ready"


def test_a_worker_that_ends_is_not_started_from_a_changed_package(daemon: Daemon, plugin: Copy) -> None:
    with daemon.start() as rpc:
        key, package = installed(rpc, plugin("good"))
        tamper(package)
        os.kill(rpc.up(key)["pid"], signal.SIGKILL)
        assert "'main.py' in its package" in in_error(rpc, key)["last_error"]
        crashes = rpc.call("events.list", types=["plugin.worker_crashed"])["events"]
        assert [event["data"]["reason"] for event in crashes] == ["killed", "package_changed"]
        assert [event["data"]["restart_in_s"] is None for event in crashes] == [False, True]


def test_what_was_changed_while_the_daemon_was_down_is_seen_and_mended(daemon: Daemon, plugin: Copy) -> None:
    with daemon.start() as rpc:
        key, package = installed(rpc, plugin("good"))
    daemon.stop()
    (package / "evil.py").write_text("")
    with daemon.start() as rpc:
        assert "'evil.py' in its package" in in_error(rpc, key)["last_error"]
    daemon.stop()
    (package / "evil.py").unlink()
    # Nobody has to enable it: what failed by itself is tried again at boot.
    with daemon.start() as rpc:
        assert rpc.up(key)["status"] == "ready"


def test_unload_and_install_again_mend_it(daemon: Daemon, plugin: Copy) -> None:
    """As the message says."""
    with daemon.start() as rpc:
        source = plugin("good")
        key, package = installed(rpc, source)
        (package / "main.py").unlink()
        with pytest.raises(Refused, match=r"'main.py' in its package .* is missing"):
            rpc.call("plugins.restart", plugin=key)
        rpc.call("plugins.unload", plugin=key)
        again, restored = installed(rpc, source)
        assert (again, restored) == (key, package)
        assert rpc.up(key)["status"] == "ready"
