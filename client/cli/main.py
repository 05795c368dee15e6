"""pluginctl: which command the words mean, and how its failure is told. Only the noun in use is imported."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from client.cli.exits import FAILED, INTERRUPTED, USAGE, exit_code
from client.cli.output import Context, Declined, make_streams_safe
from supervisor.core.errors import SupervisorError

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from client.cli.command import Command, Commands, Options, UsageError

NOUNS = {
    "plugins": "install, load, enable, disable, stop … plugins, and ask about them",
    "jobs": "list, run, pause, resume jobs, when they are due, and their history",
    "events": "what happened",
    "logs": "what plugins printed and logged",
    "audit": "who has changed what",
    "daemon": "the daemon itself",
    "develop": "write and check a plugin, without a daemon",
}
SHORT = {
    "status": "plugins status",
    "list": "plugins list",
    "install": "plugins install",
    "load": "plugins load",
    "enable": "plugins enable",
    "disable": "plugins disable",
    "start": "plugins start",
    "stop": "plugins stop",
    "restart": "plugins restart",
    "upgrade": "plugins upgrade",
    "approve": "plugins approve",
    "reject": "plugins reject",
    "rollback": "plugins rollback",
    "versions": "plugins versions",
    "unload": "plugins unload",
    "uninstall": "plugins unload",
    "purge": "plugins purge",
    "wait": "plugins wait",
    "health": "plugins health",
    "call": "plugins call",
    "metrics": "plugins metrics",
    "run": "jobs run",
    "top": "daemon top",
    "ping": "daemon ping",
    "reload": "daemon reload",
    "describe": "daemon describe",
    "backup": "daemon backup",
    "doctor": "daemon doctor",
    "completion": "daemon completion",
    "new": "develop new",
    "check": "develop check",
    "dev": "develop dev",
    "cron": "develop cron",
}
_CONFIG_VERBS = ("get", "set", "unset", "test", "edit", "history", "restore")
FIRST_WORDS = {
    "runs": {
        "list": "jobs runs",
        "show": "jobs get-run",
        "logs": "jobs run-logs",
        "cancel": "jobs cancel",
        "retry": "jobs retry",
    },
    "state": {"list": "plugins state-list", "get": "plugins state-get"},
    "config": {verb: f"plugins config-{verb}" for verb in _CONFIG_VERBS},
}
_ACTING = ("load", "enable", "disable", "start", "stop", "restart", "mark-error", "mark-upgrade-pending")
_PACKAGES = ("install", "upgrade", "approve", "reject", "rollback", "versions", "unload", "purge")
ELSEWHERE = {
    ("plugins", "list"): "plugin_list",
    ("plugins", "status"): "status",
    **{("plugins", verb): "acting" for verb in _ACTING},
    **{("plugins", f"state-{verb}"): "state" for verb in ("list", "get")},
    **{(noun, "metrics"): "metrics" for noun in ("plugins", "daemon")},
    ("daemon", "describe"): "describe",
    ("daemon", "top"): "top",
    **{("plugins", verb): "packages" for verb in _PACKAGES},
    **{("plugins", f"config-{verb}"): "config" for verb in _CONFIG_VERBS},
    ("develop", "cron"): "cron",
    ("develop", "dev"): "dev",
    ("daemon", "doctor"): "doctor",
    ("daemon", "completion"): "completion",
    **{("jobs", verb): "runs" for verb in ("run", "runs", "get-run", "run-logs", "cancel", "retry")},
}
"""Verbs that are not in their noun's own module, so that it is quickly imported."""
BARE = {"events": "follow", "logs": "follow", "audit": "list"}
"""Nouns that mean this verb when no verb follows."""
_GLOBAL = ("--json", "--socket", "--help", "--version")


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code tells apart failed 1, usage 2, refused 3, not found 4 and unavailable 5."""
    make_streams_safe()
    context = Context(json=False, socket=None)
    try:
        code = _main(context, list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _drop_output()  # the reader has what it wanted
        return 0
    except OSError as error:
        return _tell_os_error(context, error)
    finally:
        context.close()
    return code


def _main(context: Context, words: list[str]) -> int:
    from client.cli.command import UsageError, parse

    if words[:1] == ["__complete"]:
        from client.cli.complete import complete

        return complete(context, words[1:])
    try:
        _take_options(context, words)
        if not words or words[0] in {"-h", "--help", "help"}:
            return _help(context, words)
        if words[0] in {"-V", "--version", "version"}:
            return _version(context)
        if words[0].startswith("-"):
            raise UsageError(_wrong_option(words[0]))
        name, command = _find(context, words)
        if command is None:
            return 0
        options = parse(name, command, words)
        context.take(options)
        context.about, context.command, context.typed = _about(options), name.split()[-1], name
        return command.run(context, options) or 0
    except UsageError as error:
        return _tell_usage(context, error, words)
    except Declined as no:
        from client.cli.failure import tell_plainly

        tell_plainly(context, "DECLINED", str(no))
        return FAILED
    except SupervisorError as error:
        from client.cli.failure import tell

        tell(context, error)
        return exit_code(error)
    except SystemExit as stop:  # argparse, after --help
        return stop.code if isinstance(stop.code, int) else 0


def _about(options: Options) -> str | None:
    """The plugin that a command is about, by whatever it is named there."""
    plugin = getattr(options, "plugin", None)
    if isinstance(plugin, str):
        return plugin
    job = getattr(options, "job", None)
    return job.partition("/")[0] if isinstance(job, str) and "/" in job else None


def _tell_os_error(context: Context, error: OSError) -> int:
    """Of ours, since the client has its own errors: most often the output cannot be written."""
    _drop_output()
    from client.cli.failure import tell_plainly

    where = f"{error.filename}: " if error.filename else "cannot write the output: "
    tell_plainly(context, "OS_ERROR", f"{where}{error.strerror or error}")
    return FAILED


def _drop_output() -> None:
    """Python flushes once more at exit: let that go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _take_options(context: Context, words: list[str]) -> None:
    """Take what may stand before the noun and before the verb."""
    from client.cli.command import UsageError

    while words and words[0].startswith("--"):
        option, equals, value = words[0].partition("=")
        if option == "--json" and not equals:
            context.json = True
        elif option == "--socket":
            if not equals and len(words) < 2:
                raise UsageError("--socket needs a path")
            context.socket = value if equals else words.pop(1)
            context.check_socket()
        else:
            return
        del words[0]


def _wrong_option(word: str) -> str:
    from client.cli.meant import option_meant

    option = word.partition("=")[0]
    meant = option_meant(option, _GLOBAL, {}) or f"; there are {', '.join(_GLOBAL)}"
    return f"there is no option {option!r} before the command{meant}"


def _find(context: Context, words: list[str]) -> tuple[str, Command | None]:
    """The command that the first words name, which are taken; None when its help was shown."""
    first = words.pop(0)
    _take_options(context, words)
    if target := SHORT.get(first):
        noun, verb = target.split()
        return first, _command(noun, verb)
    if first in FIRST_WORDS:
        return _find_verb(context, first, words, FIRST_WORDS[first])
    if first in NOUNS:
        return _find_verb(context, first, words, {verb: f"{first} {verb}" for verb in _verbs(first)})
    from client.cli.command import UsageError
    from client.cli.meant import command_meant

    raise UsageError(f"there is no command {first!r}{command_meant(first, [*NOUNS, *SHORT, *FIRST_WORDS])}")


def _find_verb(context: Context, first: str, words: list[str], verbs: dict[str, str]) -> tuple[str, Command | None]:
    verb = words[0].replace("_", "-") if words else ""
    if verb in verbs:
        del words[0]
        _take_options(context, words)
        noun, real = verbs[verb].split()
        return f"{first} {verb}", _command(noun, real)
    if first in BARE:
        return first, _command(first, BARE[first])
    if not words or words[0] in {"-h", "--help", "help"}:
        _noun_help(context, first, verbs)
        return first, None
    from client.cli.command import UsageError
    from client.cli.meant import command_meant

    raise UsageError(f"{first} has no verb {words[0]!r}{command_meant(verb, list(verbs), first)}")


def _verbs(noun: str) -> list[str]:
    return [*(verb for of, verb in ELSEWHERE if of == noun), *_own(noun)]


def _command(noun: str, verb: str) -> Command:
    return _own(ELSEWHERE.get((noun, verb), noun))[verb]


def _own(module: str) -> Commands:
    commands: Commands = import_module(f"client.cli.{module}").COMMANDS
    return commands


def _help(context: Context, words: list[str]) -> int:
    if len(words) > 1:
        return _main(context, [*words[1:], "--help"])
    if not words and context.json:
        from client.cli.command import UsageError

        raise UsageError("a command is missing: `pluginctl help` lists them")
    from client.cli.overview import overview

    context.say(overview(NOUNS, SHORT))
    return 0 if words else USAGE


def _noun_help(context: Context, first: str, verbs: dict[str, str]) -> None:
    from client.cli.overview import noun_help

    found = {}
    for verb, target in verbs.items():
        noun, real = target.split()
        found[verb] = _command(noun, real)
    context.say(noun_help(first, NOUNS.get(first, ""), found))


def _version(context: Context) -> int:
    from client.version import VERSION

    context.show({"version": VERSION}, f"pluginctl {VERSION}")
    return 0


def _tell_usage(context: Context, error: UsageError, words: list[str]) -> int:
    from client.cli.failure import tell_usage

    context.json = context.json or "--json" in words
    tell_usage(context, str(error), error.usage, error.details)
    return USAGE


if __name__ == "__main__":
    sys.exit(main())
