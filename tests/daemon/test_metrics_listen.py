"""Where Prometheus may scrape: the place is ours alone, and one that cannot be had is refused with the way out."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from supervisor.core.errors import SupervisorError
from supervisor.daemon.metrics_listen import scrape_listener


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_a_port_of_the_loopback_address() -> None:
    port = free_port()
    with scrape_listener(f"127.0.0.1:{port}", "") as listener, socket.create_connection(("127.0.0.1", port), 5):
        assert listener.getsockname() == ("127.0.0.1", port)
        assert not os.get_inheritable(listener.fileno())
    assert listener.fileno() == -1
    with scrape_listener(f"127.0.0.1:{port}", ""):  # At once, whoever was connected before.
        pass


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback address")
@pytest.mark.parametrize("host", ["[::1]", "::1"])
def test_the_other_loopback_address(host: str) -> None:
    port = free_port()
    with scrape_listener(f"{host}:{port}", "") as listener:
        assert listener.getsockname()[:2] == ("::1", port)


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SupervisorError) as caught, scrape_listener(f"127.0.0.1:{port}", ""):
            pass
    assert f"127.0.0.1:{port}: Address already in use" in caught.value.message
    assert caught.value.message.endswith("name another place in metrics_listen (PLUGIND_METRICS_LISTEN), or none")


def test_a_unix_socket_is_for_us_alone_and_goes_with_us(tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    with scrape_listener(str(path), ""):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


def test_a_group_may_be_let_in(tmp_path: Path) -> None:
    path, gid = tmp_path / "metrics.sock", os.getegid()
    with scrape_listener(str(path), str(gid)):
        found = path.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, gid)


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("mine")
    why = "no socket: move it away, or name another with metrics_listen"
    with pytest.raises(SupervisorError, match=why), scrape_listener(str(path), ""):
        pass
    assert path.read_text() == "mine"


def test_where_another_listens_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "metrics.sock")
    with scrape_listener(path, ""), pytest.raises(SupervisorError, match="metrics_listen"), scrape_listener(path, ""):
        pass


def test_it_goes_also_where_something_else_fails(tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    with pytest.raises(RuntimeError, match="of another"), scrape_listener(str(path), ""):
        raise RuntimeError("of another")
    assert not path.exists()
