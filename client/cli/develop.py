"""pluginctl develop: write and check a plugin, without a daemon."""

from __future__ import annotations

import os
import re
from pathlib import Path

from client.cli.command import Argument, Command, Commands, Options, UsageError
from client.cli.output import Context
from client.cli.render import counted, escaped
from client.errors import AlreadyExists, FailedPrecondition, InvalidParams, NotFound

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from supervisor.core.manifest import InvalidManifest, Manifest
    from supervisor.core.problem import Problem

_MANIFEST = """\
[plugin]
key = "{key}"
version = "0.1.0"
api_version = 1
display_name = "{name}"
description = "Counts, says so, and tells a forecast: a plugin to start from."
author = "{author}"
categories = ["automation"]
capabilities = ["jobs.schedule", "methods.register", "events.emit", "state.read", "state.write"]

[worker]
command = ["python", "main.py"]

[[jobs]]
key = "refresh"
display_name = "Refresh"
schedule = "*/5 * * * *"

[[methods]]
name = "forecast"
description = "The sky over a city."
params_schema = {{ type = "object", properties = {{ city = {{ type = "string" }} }}, required = ["city"] }}
"""
_MAIN = '''\
"""{key}: a plugin for plugind."""

from supervisor.sdk import Plugin, run

plugin = Plugin()


@plugin.job("refresh")
def refresh(ctx):
    """Runs on the schedule in plugin.toml, and with `pluginctl run {key}/refresh --wait`."""
    count = ctx.state.get("count", 0) + 1
    ctx.state.set("count", count)
    ctx.log.info("refreshed", count=count)
    ctx.emit("refreshed", {{"count": count}})
    return {{"count": count}}


@plugin.method("forecast")
def forecast(ctx, city: str):
    """Answers `pluginctl call {key} forecast '{{"city": "Rome"}}'`."""
    return {{"city": city, "sky": "clear"}}


if __name__ == "__main__":
    run(plugin)
'''


def write_plugin(key: str, directory: Path, author: str) -> list[Path]:
    """Write a plugin that works at once; a directory that is there must be empty.

    Raises:
        UsageError: `key` is no plugin key.
        AlreadyExists: the directory has something in it.
        FailedPrecondition: it cannot be written.
    """
    from supervisor.core.plugin import key_problem

    if why := key_problem(key):
        raise UsageError(f"{key!r} is no plugin key: it {why}; for example acme.weather", details={"key": key})
    name = key.replace(".", " ").replace("_", " ").replace("-", " ").strip().title() or key
    texts = {"plugin.toml": _MANIFEST.format(key=key, name=name, author=author), "main.py": _MAIN.format(key=key)}
    made: list[Path] = []
    try:
        _make_directory(directory, made)
        if any(directory.iterdir()):
            raise AlreadyExists(f"{directory} is not empty: name another directory", path=str(directory))
        for file, text in texts.items():
            with (directory / file).open("x", encoding="utf-8") as out:
                made.append(directory / file)
                os.fchmod(out.fileno(), 0o644)
                out.write(text)
    except OSError as error:
        _remove(made)
        raise FailedPrecondition(f"cannot write {directory}: {error.strerror}", path=str(directory)) from None
    return [directory / file for file in texts]


def _remove(made: list[Path]) -> None:
    """What was made of a plugin that could not be written, such as on a full disk."""
    for path in reversed(made):
        try:
            path.rmdir() if path.is_dir() else path.unlink()
        except OSError:
            return  # somebody has put something into it, or the disk has gone: what went wrong first is told


def _make_directory(directory: Path, made: list[Path]) -> None:
    """Make it and what is missing above it, such that only its owner can write: whatever the umask, it installs."""
    if directory.is_dir():
        return
    _make_directory(directory.parent, made)
    directory.mkdir(0o755)
    made.append(directory)
    directory.chmod(0o755)


def _new(context: Context, options: Options) -> None:
    directory = Path(options.dir or options.name).absolute()
    files = write_plugin(options.name, directory, "you")
    where = escaped(directory)
    text = (
        f"wrote {', '.join(escaped(file.name) for file in files)} in {where}\n"
        f"next: pluginctl check {where}\n"
        f"      pluginctl install {where}\n"
        f"      pluginctl run {options.name}/refresh --wait"
    )
    context.show({"key": options.name, "directory": str(directory), "files": [str(file) for file in files]}, text)


def checked(path: str) -> Manifest:
    """The manifest of a package, after the daemon's own checks: what is well here is well there.

    Raises:
        NotFound: there is nothing at `path`.
        InvalidParams: with all its problems.
    """
    from supervisor.core.manifest import InvalidManifest
    from supervisor.daemon.checks import check_source

    if not os.path.lexists(path):
        raise NotFound(f"there is no file or directory {path!r}", source=path)
    try:
        return check_source(Path(path).absolute())
    except InvalidManifest as error:
        raise InvalidParams(_by_table(error), **error.details) from None


def _by_table(error: InvalidManifest) -> str:
    """Its problems, those of one table together, in the order of the file; each with its way out below it."""
    groups: dict[str, list[Problem]] = {}
    for problem in sorted(error.problems, key=lambda problem: problem.line or 0):
        groups.setdefault(re.split(r"(?<!^)[.\[]", problem.path, maxsplit=1)[0], []).append(problem)
    lines = [error.message.partition("\n")[0]]
    for table, problems in groups.items():
        lines += ["", f"[{table}]" if table else "the file"]
        for problem in problems:
            line = f"line {problem.line}: " if problem.line else ""
            found = f" (found: {problem.value})" if problem.value is not None else ""
            name = f"{problem.path}: " if problem.path else ""
            lines.append(f"  {line}{name}{problem.message}{found}")
            lines += [f"      {problem.hint}"] if problem.hint else []
    return "\n".join(lines)


def _check(context: Context, options: Options) -> None:
    manifest = checked(options.source)
    facts = {
        "key": str(manifest.key),
        "version": manifest.version,
        "capabilities": [str(capability) for capability in manifest.capabilities],
        "jobs": [job.key for job in manifest.jobs],
        "methods": [method.name for method in manifest.methods],
    }
    counts = f"{counted(len(manifest.jobs), 'job')}, {counted(len(manifest.methods), 'method')}"
    context.show(facts, escaped(f"{manifest.key} {manifest.version} is well: {counts}"))


COMMANDS: Commands = {
    "new": Command(
        _new,
        "Write a plugin that works at once.",
        "new acme.weather ./weather",
        Argument("name", metavar="NAME", help="the plugin's key, such as acme.weather"),
        Argument("dir", metavar="DIR", nargs="?", help="where (./NAME)"),
    ),
    "check": Command(
        _check,
        "Check a plugin and say every problem at once.",
        "check ./weather",
        Argument("source", metavar="SOURCE", nargs="?", default=".", help="its directory (.), archive or wheel"),
    ),
}
