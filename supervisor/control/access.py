"""Peer credentials -> role. Default deny."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Final

import trio

from supervisor.core.errors import PermissionDenied
from supervisor.wire.control import ControlRequest, Role

_UCRED: Final = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the other end: the kernel's word, as of its connect(). `role` is None for those who may nothing."""

    pid: int
    uid: int
    gid: int
    role: Role | None

    @property
    def is_root(self) -> bool:
        return self.uid == 0


class Gate:
    """Who is let in, and as what."""

    def __init__(self, own_uid: int) -> None:
        self._own_uid = own_uid

    def identify(self, sock: trio.socket.SocketType) -> Caller:
        """The peer of a connected Unix socket.

        Raises:
            SupervisorError: it is not let in; what is raised is to be told to it.
        """
        pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        return Caller(pid, uid, gid, Role.ADMIN if uid in {0, self._own_uid} else None)


def require(caller: Caller, request: type[ControlRequest]) -> None:
    """Refuse what the caller's role does not cover.

    Raises:
        PermissionDenied: it names the role that is needed and the caller's uid.
    """
    if caller.role is None:
        raise PermissionDenied(
            f"uid {caller.uid} has no role here: only root and the user that runs plugind may use this socket",
            uid=caller.uid,
            required=request.ROLE.name.lower(),
        )
    if caller.role < request.ROLE:
        raise PermissionDenied(
            f"{request.METHOD} needs the role {request.ROLE.name.lower()}; uid {caller.uid} is "
            f"{caller.role.name.lower()}",
            uid=caller.uid,
            required=request.ROLE.name.lower(),
            role=caller.role.name.lower(),
        )
