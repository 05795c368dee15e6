"""Where Prometheus may scrape: a port of the loopback address, or a Unix socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from supervisor.control.listen import bound_socket
from supervisor.core.errors import FailedPrecondition

_BACKLOG: Final = 16


@contextmanager
def scrape_listener(where: str, group: str) -> Iterator[socket.socket]:
    """A listening socket at `where`, as the setting metrics_listen has it; closed at the end.

    A Unix socket is for us alone, or for `group` too, if there is one; a port is for whoever is on this machine.

    Raises:
        FailedPrecondition: the place cannot be used; the message says why, and the way out.
    """
    if where.startswith("/"):
        with bound_socket(Path(where), group, named_by="metrics_listen") as listener:
            yield listener
    else:
        with _bound_port(where) as listener:
            yield listener


def _bound_port(where: str) -> socket.socket:
    host, _, port = where.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family, backlog=_BACKLOG)
    except OSError as error:
        why = f"cannot listen for scrapes at {where}: {error.strerror or error}"
        raise FailedPrecondition(
            f"{why}; name another place in metrics_listen (PLUGIND_METRICS_LISTEN), or none", metrics_listen=where
        ) from error
