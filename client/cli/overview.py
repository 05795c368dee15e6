"""The help above single commands."""

from __future__ import annotations

from collections.abc import Mapping

from client.cli.command import Commands

_DAILY: Mapping[str, str] = {
    "status [KEY]": "the daemon and all plugins, or one plugin",
    "list": "all plugins",
    "install SOURCE": "install a plugin and load it: a directory, archive, wheel, or 'name>=1'",
    "load|enable KEY": "make a plugin ready and start its worker",
    "disable KEY": "stop a plugin and keep it stopped",
    "start|stop|restart KEY": "the worker only; the plugin's status stays",
    "upgrade KEY [SOURCE]": "the new version, or the old one goes on",
    "approve|reject KEY": "a version that waits, as it asks for more",
    "rollback KEY": "the version before; --version V for another one kept",
    "versions KEY": "the versions that are kept",
    "config get|set|edit KEY": "its configuration; `config --help` for the rest",
    "uninstall KEY": "remove a plugin; its data stays unless --remove-data",
    "purge KEY": "delete the data that an uninstalled plugin has left",
    "logs [-f] KEY": "what a plugin printed and logged",
    "events [-f]": "what happened",
    "jobs list|next|pause|resume": "jobs, and when they are due; `next --hours 24` of all",
    "run JOB [--wait]": "run a job now; with --wait its log, and its outcome as exit code",
    "runs list|show|logs RUN": "what ran, why it failed, and what it logged",
    "runs cancel|retry RUN": "end a run; run again what failed",
    "call KEY METHOD [PARAMS]": "call a method of a plugin",
    "state list KEY": "what a plugin stored",
    "metrics KEY": "the numbers that a plugin tells of itself",
    "wait KEY --phase running": "until a plugin is so",
    "health KEY": "ask a worker how it is",
    "ping, describe, backup FILE": "the daemon",
    "new NAME, check DIR": "write a plugin",
    "cron EXPR [--zone ZONE]": "a schedule in words, and its next times",
}


def overview(nouns: Mapping[str, str], short: Mapping[str, str], first_words: Mapping[str, Mapping[str, str]]) -> str:
    daily = "\n".join(f"  {words:<29}{what}" for words, what in _DAILY.items())
    every = "\n".join(f"  {noun:<29}{what}" for noun, what in nouns.items())
    forms = ", ".join([*short, *(f"{first} {verb}" for first, verbs in first_words.items() for verb in verbs)])
    return (
        "usage: pluginctl [--socket PATH] [--json] COMMAND …\n\n"
        f"commands:\n{daily}\n\n"
        f"all methods, as `pluginctl NOUN VERB`; `pluginctl NOUN --help` lists the verbs:\n{every}\n\n"
        f"short forms: {forms}\n\n"
        "exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused, 4 not found, 5 plugind not reachable\n\n"
        "example: pluginctl install ./weather\n"
    )


def noun_help(noun: str, summary: str, commands: Commands) -> str:
    rows = "\n".join(f"  {verb:<22}{command.summary}" for verb, command in commands.items())
    example = next(iter(commands.values())).example
    head = f"{summary}\n\n" if summary else ""
    return f"usage: pluginctl {noun} VERB …\n\n{head}verbs:\n{rows}\n\nexample: pluginctl {example}\n"
