"""What is shown of configurations: no secret, and no reference's value, is in any of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from supervisor.core.errors import InvalidParams
from supervisor.core.plugin import Plugin
from supervisor.core.problem import Problem
from supervisor.core.secrets import divide, mask
from supervisor.store.configs import StoredConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownConfig:
    """`secrets` are the names of those that are set, dotted; `good`: a worker has taken it. `set_at_ms`: UTC."""

    config: Mapping[str, Any]
    secrets: tuple[str, ...]
    revision: int
    good: bool
    set_at_ms: int | None
    uid: int | None
    config_schema: Mapping[str, Any]
    restarted: bool = False
    """The worker was restarted for it."""
    changed: bool = False
    """It was stored; False as well where the very same was there already."""
    notes: tuple[str, ...] = ()
    """What was made of values that begin with `$`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigVerdict:
    """`asked_worker`: it had its say; otherwise only the schema had."""

    problems: tuple[Problem, ...]
    asked_worker: bool

    @property
    def ok(self) -> bool:
        return not self.problems


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigRevision:
    """`names` are those of its top-level values."""

    revision: int
    current: bool
    good: bool
    set_at_ms: int
    uid: int | None
    names: tuple[str, ...]


def shown_config(
    plugin: Plugin, stored: StoredConfig, *, restarted: bool = False, changed: bool = False
) -> ShownConfig:
    schema = plugin.manifest.config_schema
    return ShownConfig(
        config=mask(schema, stored.data),
        secrets=tuple(sorted(divide(schema, stored.data)[1])),
        revision=stored.revision,
        good=stored.good,
        set_at_ms=stored.set_at_ms,
        uid=stored.uid,
        config_schema=schema,
        restarted=restarted,
        changed=changed,
    )


def shown_revision(stored: StoredConfig, *, current: bool) -> ConfigRevision:
    return ConfigRevision(
        revision=stored.revision,
        current=current,
        good=stored.good,
        set_at_ms=stored.set_at_ms or 0,
        uid=stored.uid,
        names=tuple(sorted(stored.data)),
    )


def refusal(what: str, problems: Sequence[Problem], way_out: str = "") -> InvalidParams:
    """One error with all problems; details: problems, a list of {path, message}."""
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = "\n".join(f"  {problem.path}: {problem.message}" for problem in problems)
    listed = [{"path": problem.path, "message": problem.message} for problem in problems]
    return InvalidParams(f"{what} has {count}:\n{lines}{way_out}", problems=listed)
