"""What `pluginctl doctor` sees without a daemon: Python, packages, the socket's file, time zones, the clock, disks."""

from __future__ import annotations

import os
import stat
import sys
import time
import zoneinfo
from importlib import metadata
from pathlib import Path

from client import version
from client.cli.doctor_finding import OK, PROBLEM, WARNING, Finding, megabytes, well
from client.cli.reach import not_running
from supervisor.trust import entry_problem, group_name, parents_problem, user_name

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from collections.abc import Iterator

_PYTHON = (3, 11)
_LITTLE_BYTES, _TOO_LITTLE_BYTES = 500 * 1024 * 1024, 50 * 1024 * 1024
_LITTLE_SHARE = 0.05
_DAY_S = 86_400


def python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < _PYTHON:
        return Finding("python", PROBLEM, f"Python {found} is too old", "install plugind with Python 3.11 or later")
    return well("python", f"Python {found}, {sys.executable}")


def packages(distribution: str = "plugind") -> Iterator[Finding]:
    """What plugind requires, in this environment: as it was installed."""
    try:
        required, here = metadata.requires(distribution) or [], metadata.version(distribution)
    except metadata.PackageNotFoundError:
        remedy = "install it into a virtual environment of its own: `pip install plugind`"
        yield Finding("packages", WARNING, f"{distribution} runs without having been installed", remedy)
        return
    wrong = [problem for line in required if (problem := _unmet(line))]
    again = f"`{sys.executable} -m pip install --upgrade {distribution}`"
    yield from (Finding("packages", PROBLEM, problem, again) for problem in wrong)
    if not wrong:
        yield well("packages", f"{distribution} {here} and all that it requires")


def _unmet(line: str) -> str | None:
    from packaging.requirements import Requirement

    requirement = Requirement(line)
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return None
    try:
        found = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed"
    fits = requirement.specifier.contains(found, prereleases=True)
    return None if fits else f"{requirement.name} is {found}, and {requirement.specifier} is required"


def socket_file(path: str, argument: str | None) -> Finding:
    """Whether there is one, whose it is, and who could put another in its place."""
    try:
        found = os.stat(path)
    except PermissionError:
        from client.cli.reach import not_let_in

        said, remedy = not_let_in(path, argument)
        return Finding("socket", PROBLEM, said, remedy)
    except OSError:
        found = None
    if found is None or not stat.S_ISSOCK(found.st_mode):
        said, remedy = not_running(path, argument)
        return Finding("socket", PROBLEM, said, remedy)
    mode = stat.S_IMODE(found.st_mode)
    text = f"{path} ({user_name(found.st_uid)}:{group_name(found.st_gid)}, {mode:04o})"
    if problem := parents_problem(Path(path).parent.resolve() / Path(path).name, found.st_uid):
        return Finding("socket", PROBLEM, *_remedied(problem, "put it where only root and its owner can write"))
    if mode & stat.S_IWOTH:
        remedy = "SocketMode=0660 in plugind.socket, unless everybody is meant to connect"
        return Finding("socket", WARNING, f"{text}: everybody may connect; what they may do, their roles say", remedy)
    return well("socket", text)


def permissions(what: str, path: str, uid: int) -> Finding:
    """Whether others than root and `uid`, who runs plugind, can change what is there."""
    real = Path(os.path.realpath(path))
    try:
        found = real.lstat()
        problem = entry_problem(real, found, uid) or parents_problem(real, uid)
    except FileNotFoundError:
        return well(what, f"{path} is not there yet")
    except OSError as error:
        return well(what, f"{path} is closed to you ({error.strerror})")
    if problem:
        return Finding(what, PROBLEM, *_remedied(problem, "give it to the user of plugind, or choose another place"))
    return well(what, f"{path} ({user_name(found.st_uid)}:{group_name(found.st_gid)}, {found.st_mode & 0o7777:04o})")


def _remedied(problem: str, otherwise: str) -> tuple[str, str]:
    """The problem, and its way out where it ends with one."""
    said, colon, command = problem.rpartition(": ")
    if not colon or not command.startswith(("chmod", "chown")):
        return problem, otherwise
    return said.removesuffix("; make it your own"), f"`{command}`"


def disk(what: str, free: int | None, total: int | None) -> Finding | None:
    """None: nobody can tell."""
    if free is None or not total:
        return None
    text = f"{megabytes(free)} of {megabytes(total)} free"
    if free >= min(_LITTLE_BYTES, total * _LITTLE_SHARE):
        return well(what, text)
    state = PROBLEM if free < _TOO_LITTLE_BYTES else WARNING
    return Finding(what, state, text, "make room: plugind refuses changes when it is full (`keep_versions`, logs)")


def time_zones(names: set[str]) -> Iterator[Finding]:
    """Where their data comes from, and whether all `names` that are in use are known."""
    system = next((place for place in zoneinfo.TZPATH if os.path.isdir(place)), None)
    try:
        package: str | None = metadata.version("tzdata")
    except metadata.PackageNotFoundError:
        package = None
    remedy = "install the package tzdata of the system, or `pip install tzdata`"
    if system is None and package is None:
        yield Finding("time zones", PROBLEM, "there is no time zone data here: only UTC is known", remedy)
        return
    places = [f"the system's in {system}" if system else "", f"tzdata {package}" if package else ""]
    unknown = sorted(name for name in names if not _is_known(name))
    for name in unknown:
        yield Finding("time zones", PROBLEM, f"{name} is not known here, and is in use", remedy)
    if not unknown:
        yield well("time zones", " and ".join(filter(None, places)))


def _is_known(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def clock(now_s: float | None = None) -> Finding:
    """It cannot be before plugind was installed."""
    now_s = time.time() if now_s is None else now_s
    text = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(now_s))
    if now_s < os.stat(version.__file__).st_mtime - _DAY_S:
        remedy = "`timedatectl set-ntp true`, or set it: jobs are due by it"
        return Finding("clock", PROBLEM, f"{text} is before plugind was installed", remedy)
    return Finding("clock", OK, text)
