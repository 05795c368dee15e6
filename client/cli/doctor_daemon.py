"""What the answers of a daemon tell `pluginctl doctor`. Pure."""

from __future__ import annotations

from client.cli.doctor_checks import disk
from client.cli.doctor_finding import OK, PROBLEM, WARNING, Finding, megabytes, well
from client.cli.render import clock, counted

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from supervisor.wire.results import DaemonInfo, DaemonStatus, HelloInfo, JobInfo, PluginDetails, PluginInfo

_BIG_WAL_BYTES = 256 * 1024 * 1024
_MANY = 0.8
_ROLES = {"observer": "you may look", "operator": "you may look and operate", "admin": "you may everything"}
_DELEGATE = "run it by systemd with Delegate=cpu memory pids, as plugind.service does"


def answer(hello: HelloInfo, version: str) -> Iterator[Finding]:
    """Who answers, and what we may."""
    yield well("answer", f"plugind {hello['version']} (protocol {hello['protocol']})")
    if hello["version"] != version:
        text = f"plugind is {hello['version']}, and pluginctl {version}"
        yield Finding("version", WARNING, text, "restart plugind, so that both are the same")
    role = hello["role"]
    if role in _ROLES:
        yield well("role", f"{role}: {_ROLES[role]}")
        return
    remedy = "an admin names you, or a group of yours, in `observers`, `operators` or `admins` of plugind.toml"
    yield Finding("role", PROBLEM, f"uid {hello['uid']} has no role, and may do nothing", remedy)


def process(info: DaemonInfo, status: DaemonStatus) -> Iterator[Finding]:
    """What it warns of, its database, its disks and its descriptors."""
    for warning in status["warnings"]:
        yield Finding("plugind", WARNING, warning, "`journalctl -u plugind`, its log, has more")
    if status["stopping"]:
        yield Finding("plugind", WARNING, "it is stopping", "`systemctl start plugind`, if that was not meant")
    seen = info.get("resources")
    if seen is None:
        yield Finding("resources", WARNING, "this plugind is too old to tell of them", "upgrade and restart plugind")
        return
    yield _database(seen["database_bytes"], seen["wal_bytes"])
    for what, free, total in (
        ("disk of state", seen["state_free_bytes"], seen["state_total_bytes"]),
        ("disk of logs", seen["log_free_bytes"], seen["log_total_bytes"]),
    ):
        yield disk(what, free, total) or Finding(what, WARNING, "plugind cannot look at it", "is its directory there?")
    yield _files(seen["open_files"], seen["max_files"])
    yield from _controllers(seen["controllers"], cgroup=seen["cgroup"])


def _database(size: int | None, wal: int | None) -> Finding:
    if size is None:
        remedy = "stop plugind, put a backup in its place, and start it"
        return Finding("database", PROBLEM, "its file is gone from under plugind", remedy)
    text = f"{megabytes(size)}, and {megabytes(wal or 0)} of write-ahead log"
    if (wal or 0) > _BIG_WAL_BYTES:
        return Finding("database", WARNING, text, "restart plugind: something reads the database all the time")
    return well("database", text)


def _files(used: int | None, most: int | None) -> Finding:
    if used is None:
        return Finding(
            "descriptors", PROBLEM, "plugind has none left", "raise LimitNOFILE= of the unit, or `ulimit -n`"
        )
    text = f"{used} of {most or 'any number'} in use by plugind"
    if most is not None and used > most * _MANY:
        return Finding("descriptors", WARNING, text, "raise LimitNOFILE= of the unit, or `ulimit -n`")
    return well("descriptors", text)


def _controllers(controllers: dict[str, str], *, cgroup: bool) -> Iterator[Finding]:
    if not cgroup:
        text = "no control group was delegated to plugind: limits hold by rlimits and a look every second"
        yield Finding("sandbox", WARNING, text, _DELEGATE)
        return
    for name, why in controllers.items():
        if why:
            yield Finding("sandbox", WARNING, f"control groups cannot limit {name}: {why}", _DELEGATE)
    if not any(controllers.values()):
        yield well("sandbox", f"a control group for each worker, with {', '.join(sorted(controllers))}")


def limits(plugins: Sequence[PluginDetails]) -> Iterator[Finding]:
    """Limits of manifests that nothing enforces."""
    for plugin in plugins:
        loose = [limit["limit"] for limit in plugin["limits"] if limit["enforced_by"] == "nothing"]
        if loose:
            text = f"{plugin['key']}: nothing enforces {', '.join(loose)}"
            yield Finding("sandbox", WARNING, text, _DELEGATE)


def plugins(found: Sequence[PluginInfo]) -> Iterator[Finding]:
    """Those that are not as they should be."""
    count = 0
    for plugin in found:
        if told := _plugin(plugin):
            count += 1
            yield told
    if not count:
        yield well("plugins", f"{counted(len(found), 'plugin')}, and nothing is wrong with them")


def _plugin(plugin: PluginInfo) -> Finding | None:
    key, text = plugin["key"], f"{plugin['key']}: {plugin['summary']}"
    if plugin["status"] == "error":
        return Finding("plugins", PROBLEM, text, f"`pluginctl logs {key}`, then `pluginctl enable {key}`")
    if plugin["status"] == "upgrade_pending":
        return Finding("plugins", WARNING, text, f"`pluginctl approve {key}` or `pluginctl reject {key}`")
    if plugin["phase"] == "backoff":
        return Finding("plugins", WARNING, text, f"`pluginctl logs {key}` shows why it crashed")
    if plugin["waiting_for"]:
        return Finding("plugins", WARNING, text, f"`pluginctl status {plugin['waiting_for'][0]}`")
    if plugin["held"]:
        return Finding("plugins", WARNING, text, f"`pluginctl start {key}`")
    return None


def jobs(found: Sequence[JobInfo], held_since_ms: int | None) -> Finding:
    if held_since_ms is not None:
        text = f"the whole schedule is paused since {clock(held_since_ms)}"
        return Finding("jobs", WARNING, text, "`pluginctl jobs resume --all`")
    held = sum(job["held_by"] is not None for job in found)
    return Finding("jobs", OK, counted(len(found), "job") + (f", {held} of them paused" if held else ""))
