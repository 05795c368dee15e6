"""Which socket to dial."""

from __future__ import annotations

import os

from supervisor.wire.address import default_socket_path


def socket_path(argument: str | None = None) -> str:
    """`argument`, else PLUGIND_SOCKET, else the default of this user."""
    return argument or default_socket_path(os.environ, os.getuid())
