"""Every command of pluginctl: words that it answers, what its JSON is to be, and words that it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """In words, `{key}` is a plugin of its own in `state`, `{run}` one of its runs, `{keeper}` a plugin that all share,
    `{source}` the source of version 3.0 of the plugin, `{new}` a path where nothing is."""

    words: str
    shows: str | Schema
    """The JSON: the result of this method, or what this schema describes."""
    state: str = ""
    run: str = ""
    """Whether that run is `running`, has `failed`, or was `quick`."""
    refused: str = ""
    """Words that end with 3, with the plugin in `refused_state`."""
    refused_state: str = "ready"
    code: int = 0
    """What it ends with."""
    local: bool = False
    """Needs no daemon."""
    stops: bool = False
    """The daemon, so it gets one of its own."""
    on_terminal: bool = False
    """Nowhere else, so it has tests of its own."""
    goes_on: bool = False
    """Until Ctrl-C, so it has tests of its own."""

    @property
    def names_something(self) -> bool:
        """That may not be there."""
        return not (self.local or self.on_terminal) and any(
            name in self.words for name in ("{key}", "{keeper}", "{run}")
        )


def an_object(**properties: str | Schema) -> Schema:
    """With at least these properties; a text is the type of one."""
    typed = {name: {"type": kind} if isinstance(kind, str) else kind for name, kind in properties.items()}
    return {"type": "object", "required": list(properties), "properties": typed}


def an_array(of: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "items": of}


PLUGIN = an_object(id="string", key="string", version="string", status="string", phase="string", restarts="integer")
LINE = an_object(time_ms="integer", stream="string", level="string", message="string")
FINDING = an_object(check="string", state={"enum": ["ok", "warning", "problem"]}, text="string", remedy="string")

COMMANDS: Mapping[str, Case] = {
    "plugins list": Case(words="list", shows="plugins.list"),
    "plugins status": Case(words="status {keeper}", shows=an_object(key="string", summary="string", log="array")),
    "plugins get": Case(words="plugins get {keeper}", shows="plugins.get"),
    "plugins install": Case(words="install {source} --yes", shows="plugins.install", refused="install {source} --yes"),
    "plugins load": Case(words="load {key}", shows="plugins.load", state="installed", refused="load {key}"),
    "plugins enable": Case(words="enable {key}", shows="plugins.enable", state="disabled"),
    "plugins disable": Case(
        words="disable {key} --reason later",
        shows="plugins.disable",
        state="ready",
        refused="disable {key} --reason another",
        refused_state="disabled",
    ),
    "plugins start": Case(
        words="start {key}", shows="plugins.start", state="stopped", refused="start {key}", refused_state="disabled"
    ),
    "plugins stop": Case(
        words="stop {key}", shows="plugins.stop", state="ready", refused="stop {key}", refused_state="disabled"
    ),
    "plugins restart": Case(
        words="restart {key}",
        shows="plugins.restart",
        state="ready",
        refused="restart {key}",
        refused_state="installed",
    ),
    "plugins mark-error": Case(
        words="plugins mark-error {key} broken",
        shows="plugins.mark_error",
        state="ready",
        refused="plugins mark-error {key} broken",
        refused_state="uninstalled",
    ),
    "plugins mark-upgrade-pending": Case(
        words="plugins mark-upgrade-pending {key}",
        shows="plugins.mark_upgrade_pending",
        state="ready",
        refused="plugins mark-upgrade-pending {key}",
        refused_state="disabled",
    ),
    "plugins upgrade": Case(
        words="upgrade {key} {source} --yes",
        shows="plugins.upgrade",
        state="ready",
        refused="upgrade {key} {source} --yes",
        refused_state="uninstalled",
    ),
    "plugins approve": Case(
        words="approve {key} --yes", shows="plugins.approve", state="waiting", refused="approve {key} --yes"
    ),
    "plugins reject": Case(words="reject {key}", shows="plugins.reject", state="waiting", refused="reject {key}"),
    "plugins rollback": Case(words="rollback {key}", shows="plugins.rollback", state="upgraded"),
    "plugins versions": Case(words="versions {keeper}", shows="plugins.versions"),
    "plugins unload": Case(
        words="uninstall {key}",
        shows="plugins.unload",
        state="disabled",
        refused="uninstall {key}",
        refused_state="uninstalled",
    ),
    "plugins purge": Case(
        words="purge {key} --yes", shows="plugins.unload", state="uninstalled", refused="purge {key} --yes"
    ),
    "plugins wait": Case(words="wait {keeper} --phase running --timeout 0.2", shows="plugins.wait"),
    "plugins health": Case(words="health {keeper}", shows="plugins.health"),
    "plugins can-transition": Case(words="plugins can-transition {keeper} disabled", shows="plugins.can_transition"),
    "plugins call": Case(words="call {keeper} echo [5]", shows={"const": 5}),
    "plugins metrics": Case(words="metrics {keeper}", shows="plugins.metrics"),
    "plugins state-list": Case(words="state list {keeper}", shows="plugins.state_list"),
    "plugins state-get": Case(words="state get {keeper} city", shows="plugins.state_get"),
    "plugins config-get": Case(words="config get {key}", shows="plugins.config_get", state="configured"),
    "plugins config-set": Case(
        words="config set {key} city=Rome",
        shows="plugins.config_set",
        state="configured",
        refused="config set {key} city=5",
    ),
    "plugins config-unset": Case(words="config unset {key} city", shows="plugins.config_set", state="configured"),
    "plugins config-test": Case(words="config test {key} city=Rome", shows="plugins.config_test", state="configured"),
    "plugins config-edit": Case(
        words="config edit {key}", shows={"type": "null"}, state="configured", on_terminal=True
    ),
    "plugins config-history": Case(words="config history {key}", shows="plugins.config_history", state="configured"),
    "plugins config-restore": Case(words="config restore {key} 1", shows="plugins.config_restore", state="configured"),
    "jobs list": Case(words="jobs list --plugin {keeper}", shows="jobs.list"),
    "jobs get": Case(words="jobs get {keeper}/keep", shows="jobs.get"),
    "jobs next": Case(words="jobs next {keeper}/keep", shows="jobs.next"),
    "jobs pause": Case(words="jobs pause {key}/quick", shows="jobs.pause", state="ready"),
    "jobs resume": Case(words="jobs resume --plugin {key}", shows="jobs.resume", state="paused"),
    "jobs run": Case(
        words="run {key}/quick --wait",
        shows="jobs.run",
        state="ready",
        refused="run {key}/quick",
        refused_state="disabled",
    ),
    "jobs runs": Case(words="runs list --plugin {key}", shows="jobs.runs", state="ready", run="quick"),
    "jobs get-run": Case(words="runs show {run}", shows="jobs.get_run", state="ready", run="quick"),
    "jobs run-logs": Case(words="runs logs {run}", shows=an_array(LINE), state="ready", run="quick"),
    "jobs cancel": Case(words="runs cancel {run}", shows="jobs.cancel", state="ready", run="running"),
    "jobs retry": Case(words="runs retry {run} --wait", shows="jobs.retry", state="ready", run="failed", code=1),
    "events list": Case(words="events list --plugin {keeper} -n 5", shows="events.list"),
    "events follow": Case(words="events --type plugin.*", shows="events.list"),
    "logs read": Case(words="logs read {keeper}", shows="logs.read"),
    "logs follow": Case(words="logs {keeper}", shows="logs.read"),
    "audit list": Case(words="audit", shows="audit.list"),
    "daemon metrics": Case(words="metrics {keeper}", shows="plugins.metrics"),
    "daemon top": Case(words="top --once", shows=an_object(daemon="object", plugins=an_array(PLUGIN), events="array")),
    "daemon reload": Case(words="reload", shows="daemon.reload"),
    "daemon ping": Case(words="ping", shows=an_object(pong={"const": True}, round_trip_ms="number")),
    "daemon info": Case(words="daemon info", shows="daemon.info"),
    "daemon status": Case(words="daemon status", shows="daemon.status"),
    "daemon settings": Case(words="daemon settings", shows="daemon.settings"),
    "daemon stop": Case(words="daemon stop --yes", shows="daemon.stop", stops=True),
    "daemon backup": Case(words="backup {new}", shows=an_object(ok={"const": True}, path="string")),
    "daemon describe": Case(words="describe", shows="rpc.describe"),
    "daemon doctor": Case(words="doctor --socket {new}", shows=an_array(FINDING), code=1, local=True),
    "daemon completion": Case(words="completion bash", shows=an_object(shell="string", script="string"), local=True),
    "develop new": Case(
        words="new test.new {new}", shows=an_object(key="string", directory="string", files="array"), local=True
    ),
    "develop check": Case(words="check {source}", shows=an_object(key="string", version="string"), local=True),
    "develop cron": Case(words="cron @daily", shows={"type": "object"}, local=True),
    "develop dev": Case(words="dev {source}", shows={"type": "object"}, local=True, goes_on=True),
}
"""By noun and verb; short forms and first words lead to these."""

FURTHER: Mapping[str, Case] = {
    "list -a --usage": Case(words="list -a --usage", shows="plugins.list"),
    "status": Case(words="status", shows=an_object(daemon="object", plugins=an_array(PLUGIN))),
    "config get NAME": Case(words="config get {key} city", shows={"const": "Oslo"}, state="configured"),
    "jobs next": Case(words="jobs next --hours 8784", shows="jobs.next"),
    "events after": Case(words="events list --after 0 --type plugin.*", shows="events.list"),
    "metrics": Case(words="metrics", shows="daemon.metrics"),
    "describe METHOD": Case(
        words="describe plugins.call",
        shows=an_object(summary="string", params="object", result="object", role="string"),
    ),
}
"""Commands that answer differently where they are given less or more."""
