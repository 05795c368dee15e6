"""Where the control socket is when nobody says so: one rule for the daemon and its clients. Pure."""

from __future__ import annotations

from collections.abc import Mapping

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is most of what a blocking client would import
if TYPE_CHECKING:
    from typing import Final

SOCKET_VARIABLE: Final = "PLUGIND_SOCKET"


def default_socket_path(environ: Mapping[str, str], uid: int) -> str:
    """`PLUGIND_SOCKET`, else the system's path for root, else one in the user's runtime or home directory."""
    if path := environ.get(SOCKET_VARIABLE):
        return path
    if uid == 0:
        return "/run/plugind/control.sock"
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        return f"{runtime}/plugind/control.sock"
    return f"{environ.get('HOME', '/nonexistent')}/.local/state/plugind/control.sock"
