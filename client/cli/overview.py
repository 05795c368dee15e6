"""The help above single commands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from textwrap import wrap

from client.cli.command import Commands, terminal_columns

_LABEL = 28
_DAILY: Mapping[str, Mapping[str, str]] = {
    "look": {
        "status [KEY …]": "plugind and all plugins; of one its sentence, details, last log lines",
        "list [KEY …] [--usage]": "all plugins, or some; with CPU and memory",
        "top": "a live view, with keys to restart, disable, run",
        "logs [-f] KEY": "what a plugin printed and logged",
        "events [-f]": "what happened",
        "audit [TARGET]": "who has changed what",
        "metrics [KEY]": "numbers of a plugin, or plugind's for Prometheus",
    },
    "act": {
        "install SOURCE": "install a plugin and load it: a directory, an archive, a wheel, or 'name>=1'",
        "load|enable KEY …": "make plugins ready and start their workers",
        "disable KEY …": "stop plugins and keep them stopped",
        "start|stop|restart KEY …": "the workers only; the status of plugins stays",
        "wait KEY --phase running": "until a plugin is so",
        "health KEY": "ask a worker how it is",
        "call KEY METHOD [PARAMS]": "call a method of a plugin",
        "uninstall KEY [--purge]": "remove a plugin; its data stays without --purge",
        "purge KEY": "delete the data that an uninstalled plugin left",
    },
    "versions and configuration": {
        "upgrade KEY [SOURCE]": "the new version, or the old one goes on",
        "approve|reject KEY": "a version that waits, as it asks for more",
        "rollback KEY": "the version before; --version V for another one",
        "versions KEY": "the versions that are kept",
        "config get|set|edit KEY": "its configuration; `config --help` for the rest",
        "state list|get KEY": "what a plugin stored",
    },
    "jobs": {
        "jobs list|next|pause|resume": "jobs, and when they are due",
        "run JOB [--wait]": "run a job now; with --wait its log, and its outcome as exit code",
        "runs list|show|logs RUN": "what ran, why it failed, and what it logged",
        "runs cancel|retry RUN": "end a run; run again what failed",
    },
    "plugind": {
        "ping": "whether it answers",
        "reload": "read its settings anew",
        "backup FILE": "a copy of its database",
        "doctor": "what is wrong here, each with its remedy",
        "completion bash|zsh|fish": "the shell completes commands, plugins, jobs",
        "describe [METHOD]": "what its socket offers",
    },
    "writing plugins": {
        "new NAME": "a plugin that works at once",
        "check DIR": "all problems of a plugin",
        "dev DIR": "run a plugin in a daemon of its own, with live logs",
        "cron EXPR [--zone ZONE]": "a schedule in words, and its next times",
    },
}
_FIRST_WORDS: Mapping[str, str] = {
    "runs": "runs of jobs: what ran, why it failed, what it logged",
    "state": "what plugins stored",
    "config": "the configuration of a plugin, checked before it is stored",
}
_EXITS = "exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused, 4 not found, 5 plugind not reachable, 130 Ctrl-C"


def overview(nouns: Mapping[str, str], short: Mapping[str, str]) -> str:
    """All commands, none wider than the terminal."""
    width = terminal_columns() - 2
    known = {*nouns, *short, *_FIRST_WORDS}
    parts = ["usage: pluginctl [--socket PATH] [--json] COMMAND …"]
    for title, commands in _DAILY.items():
        rows = [(words, what) for words, what in commands.items() if known >= {*words.split()[0].split("|")}]
        parts.append(f"{title}:\n{_rows(rows, _LABEL, width)}")
    every = _rows({**nouns, **_FIRST_WORDS}.items(), _LABEL, width)
    parts.append(f"every method, as `pluginctl NOUN VERB`; `pluginctl NOUN --help` lists verbs:\n{every}")
    parts.append("`pluginctl COMMAND --help` tells more of each, with an example.")
    parts.append("\n".join(wrap(_EXITS, width, subsequent_indent="            ")))
    parts.append("example: pluginctl install ./weather\n")
    return "\n\n".join(parts)


def noun_help(noun: str, summary: str, commands: Commands) -> str:
    """The verbs of a noun."""
    width = terminal_columns() - 2
    rows = _rows(((verb, command.summary) for verb, command in commands.items()), 22, width)
    example = next(iter(commands.values())).example
    return (
        f"usage: pluginctl {noun} VERB …\n\n{summary or _FIRST_WORDS[noun]}\n\nverbs:\n{rows}\n\n"
        f"`pluginctl {noun} VERB --help` tells more of each.\n\nexample: pluginctl {example}\n"
    )


def _rows(rows: Iterable[tuple[str, str]], label: int, width: int) -> str:
    """Two columns; the second is broken between words, and stays where it is."""
    lines = []
    for words, what in rows:
        first, *more = wrap(what, max(width - label - 2, 20)) or [""]
        lines += [f"  {words:<{label}}{first}", *(" " * (label + 2) + line for line in more)]
    return "\n".join(lines)
