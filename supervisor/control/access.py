"""The gate: who is let in, and what each may do. Default deny."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import NoReturn

from supervisor.control.names import UserNames
from supervisor.control.peers import PluginTree, Socket, look_at
from supervisor.control.refusals import Refusals
from supervisor.control.roles import NO_RULES, Rules, setting_of
from supervisor.core.errors import PermissionDenied, SupervisorError
from supervisor.wire.control import ControlRequest, Hello, Role


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the other end: the kernel's word, as of its connect(). `role` is None for those who may nothing."""

    pid: int
    uid: int
    gid: int
    role: Role | None
    groups: frozenset[int] = frozenset()
    exe: str | None = None
    """Its program, where that may be looked at."""
    client: str | None = None
    """What it calls itself."""

    @property
    def role_name(self) -> str:
        return self.role.name.lower() if self.role else "none"


class Gate:
    """Root and the daemon's own user are admins, save plugins, which are kept out; all others are what the rules say.

    `rules` may be replaced at any time: they hold for connections that are open, from their next request on.
    """

    def __init__(
        self,
        own_uid: int,
        rules: Rules = NO_RULES,
        plugins: PluginTree | None = None,
        names: UserNames | None = None,
    ) -> None:
        self.rules = rules
        self.names = names or UserNames()
        self.refusals = Refusals()
        self._own_uid = own_uid
        self._plugins = plugins or PluginTree(os.getpid(), own_uid, None)

    def identify(self, sock: Socket) -> Caller:
        """The peer of a connected Unix socket.

        Raises:
            SupervisorError: it is not let in; what is raised is to be told to it.
        """
        try:
            peer = look_at(sock, self._plugins)
        except SupervisorError as error:
            self.refusals.connection(error.message)
            raise
        return Caller(peer.pid, peer.uid, peer.gid, self._role(peer.uid, peer.groups), peer.groups, peer.exe)

    def renewed(self, caller: Caller) -> Caller:
        """The same with the role that it has now."""
        role = self._role(caller.uid, caller.groups)
        return caller if role is caller.role else replace(caller, role=role)

    def _role(self, uid: int, groups: frozenset[int]) -> Role | None:
        return Role.ADMIN if uid in (0, self._own_uid) else self.rules.role(uid, groups)

    async def deny(self, caller: Caller, request: type[ControlRequest]) -> NoReturn:
        """Say why the caller may not.

        Raises:
            PermissionDenied: always. It names who asks and has what, what is needed and who has that.
        """
        required, granted = request.ROLE, self.rules.granted_to(request.ROLE)
        needed = required.name.lower()
        self.refusals.request(request.METHOD, needed, uid=caller.uid, pid=caller.pid, role=caller.role_name)
        name = await self.names.of(caller.uid)
        who = f"uid {caller.uid}" + (f" ({name})" if name else "")
        way_out = (
            f"it is given to {', '.join(granted)}"
            if granted
            else f'nobody is given it: name users and "@groups" in the setting {setting_of(required)}'
        )
        raise PermissionDenied(
            f"{request.METHOD} needs the role {needed}, and {who} has "
            f"{f'the role {caller.role_name}' if caller.role else 'no role here'}; {way_out}",
            uid=caller.uid,
            role=caller.role_name,
            required=needed,
            granted_to=granted,
        )


def permits(caller: Caller, request: type[ControlRequest]) -> bool:
    """Who has no role may say hello, and so learn that."""
    return request is Hello or (caller.role is not None and caller.role >= request.ROLE)
