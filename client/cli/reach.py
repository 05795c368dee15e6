"""Why plugind's socket cannot be reached, and the way out: how it is started here, or who may connect."""

from __future__ import annotations

import os
import shlex
import stat

from supervisor.wire.address import SOCKET_VARIABLE, default_socket_path

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from supervisor.core.errors import SupervisorError

UNIT = "plugind.service"
SYSTEM_UNITS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
USER_UNITS = ("/etc/systemd/user", "/usr/local/lib/systemd/user", "/usr/lib/systemd/user")


def where_from(argument: str | None) -> str:
    """What named the socket."""
    if argument:
        return "--socket"
    if os.environ.get(SOCKET_VARIABLE):
        return SOCKET_VARIABLE
    return "the default for root" if os.getuid() == 0 else "the default for this user"


def not_running(path: str, argument: str | None) -> tuple[str, str]:
    """What is wrong, and how plugind is started."""
    why = _why_nobody_answers(path)
    said = f"plugind is not running: {why} {path} ({where_from(argument)})"
    ways = [
        _start() if argument is None or path in _usual() else f"`plugind --socket {shlex.quote(path)}` starts it there"
    ]
    system = default_socket_path({}, 0)
    if path != system and os.path.exists(system):
        ways.append(f"there is a socket of the system's plugind: --socket {system}")
    elif argument is None:
        ways.append(f"is it elsewhere, name its socket with --socket or {SOCKET_VARIABLE}")
    return said, "; ".join(ways)


def _usual() -> set[str]:
    """Where the units and plugind itself put the socket."""
    return {default_socket_path({}, 0), default_socket_path(os.environ, os.getuid())}


def _why_nobody_answers(path: str) -> str:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return "there is no socket"
    except OSError:
        return "nobody answers at"
    return "nobody answers at" if stat.S_ISSOCK(mode) else "no socket is what stands at"


def _start() -> str:
    home = os.environ.get("XDG_CONFIG_HOME") or f"{os.environ.get('HOME', '')}/.config"
    if os.getuid() != 0 and _has_unit((f"{home}/systemd/user", *USER_UNITS)):
        return "`systemctl --user start plugind` starts it"
    if _has_unit(SYSTEM_UNITS):
        return f"`{'' if os.getuid() == 0 else 'sudo '}systemctl start plugind` starts it"
    return "`plugind` starts it, in the foreground"


def _has_unit(directories: tuple[str, ...]) -> bool:
    return any(os.path.exists(f"{directory}/{UNIT}") for directory in directories)


def not_let_in(path: str, argument: str | None) -> tuple[str, str]:
    """The file system keeps us from the socket: who may connect, and how to become one of them."""
    closed = _closed_directory(path)
    what = f"may not look into {closed}, where the socket is" if closed else f"may not connect to {path}"
    said = f"{what} ({where_from(argument)}): {_who_may(closed or path)}"
    return said, _way_in(closed or path)


def _closed_directory(path: str) -> str | None:
    """The first directory on the way that we may not enter."""
    parts = path.split("/")
    for count in range(2, len(parts)):
        directory = "/".join(parts[:count])
        if not os.access(directory, os.X_OK):
            return directory
    return None


def _who_may(path: str) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return "only root and the user that runs plugind may"
    owner = _user_name(found.st_uid)
    users = owner if owner == "root" else f"root and {owner}"
    group = f", and members of the group {_group_name(found.st_gid)}" if _group_may(found) else ""
    return f"only {users}{group} may"


def _group_may(found: os.stat_result) -> bool:
    wanted = stat.S_IXGRP if stat.S_ISDIR(found.st_mode) else stat.S_IWGRP
    return bool(found.st_mode & wanted)


def _way_in(path: str) -> str:
    me = _user_name(os.getuid())
    try:
        found = os.stat(path)
    except OSError:
        found = None
    if found is None or not _group_may(found):
        return "`sudo pluginctl …`; or an admin opens it to a group: `socket_group` in plugind.toml"
    return join_group(_group_name(found.st_gid), me)


def join_group(group: str, user: str) -> str:
    """How `user` comes into `group`, or only has to log in again."""
    import grp

    try:
        if user in grp.getgrnam(group).gr_mem:
            return f"{user} is in {group} since this login began: log in again, or `newgrp {group}`"
    except KeyError:
        pass  # a number without a name: then nobody is listed there
    return f"`sudo usermod -aG {group} {user}`, then log in again"


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _group_name(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def role_way_out(error: SupervisorError) -> str:
    """How to come by the role that was missing: by a group that has it, else by an admin's settings."""
    required = error.details.get("required")
    if not isinstance(required, str):
        return "this needs a higher role: try again as root or as plugind's own user"
    me = _user_name(os.getuid())
    granted = error.details.get("granted_to")
    names = [name for name in granted if isinstance(name, str)] if isinstance(granted, list) else []
    groups = [name[1:] for name in names if name.startswith("@")]
    setting = f"`{required}s` in plugind.toml, and `pluginctl reload`"
    if groups:
        return f"{join_group(groups[0], me)}; or an admin adds {me} to {setting}"
    return f"`sudo pluginctl …`; or an admin adds {me}, or a group as @{_group_name(os.getgid())}, to {setting}"
