"""What is wrong with a configuration: by its size, its references, its schema, and by the worker's own word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from supervisor.core.errors import (
    DeadlineExceeded,
    InvalidParams,
    MethodNotFound,
    PluginError,
    SupervisorError,
    Unavailable,
    error_from_code,
)
from supervisor.core.manifest import Manifest
from supervisor.core.plugin import Plugin
from supervisor.core.problem import Problem
from supervisor.core.secrets import hide
from supervisor.lifecycle.config_references import References, Resolved
from supervisor.lifecycle.schemas import SchemaChecks
from supervisor.store.configs import packed_config
from supervisor.wire.codec import profile_problem
from supervisor.wire.worker import VALIDATE_CONFIG
from supervisor.worker.host import GivenConfig
from supervisor.worker.manager import WorkerManager
from supervisor.worker.phase import Phase

MAX_CONFIG_BYTES: Final = 64 * 1024
"""As msgpack; what references stand for is beside it."""
ANSWER_S: Final = 10.0
_MAX_DEPTH: Final = 12
_WHOLE: Final = "(the whole)"
_MAX_PROBLEMS: Final = 20
_MAX_PATH: Final = 200
_MAX_MESSAGE: Final = 2000


class ConfigChecker:
    """Problems never hold a secret, nor what a reference stands for."""

    def __init__(self, workers: WorkerManager, references: References) -> None:
        self._workers = workers
        self._references = references
        self._checks = SchemaChecks()

    async def resolve(self, manifest: Manifest, config: Mapping[str, Any]) -> tuple[Resolved, list[Problem]]:
        """The configuration as a worker would be told it, and what is wrong with that by its schema."""
        if problem := plain_problem(config):
            return Resolved(config={}), [problem]
        resolved = await self._references.resolve(config)
        # What cannot be read fits no schema: that is told once.
        return resolved, list(resolved.problems) or await schema_problems(self._checks, manifest, resolved)

    async def ask_worker(self, plugin: Plugin, given: GivenConfig) -> list[Problem] | None:
        """What its worker has against a configuration; None: it does not run, or does not check any.

        Raises:
            DeadlineExceeded: it did not answer within 10 s.
            SupervisorError: it answered something else, or went away meanwhile.
        """
        if not self.can_ask(plugin):
            return None
        params, words = {"config": given.config}, given.secrets
        try:
            answer = await self._workers.call(plugin.id, VALIDATE_CONFIG, params, timeout_s=ANSWER_S, secrets=words)
        except (MethodNotFound, Unavailable):
            return None
        except DeadlineExceeded as error:
            raise DeadlineExceeded(
                f"the worker of plugin {plugin.key!r} did not answer {VALIDATE_CONFIG} within {ANSWER_S:g} s, and "
                "nothing was stored: try again, or disable the plugin, set the configuration and enable it",
                plugin=plugin.key,
            ) from error
        except (InvalidParams, PluginError) as error:
            return [Problem(path=_WHOLE, message=f"the worker refused it: {hide(error.message, words)[:_MAX_MESSAGE]}")]
        except SupervisorError as error:
            raise hidden(error, given) from error
        return _read_answer(plugin, answer, given)

    def can_ask(self, plugin: Plugin) -> bool:
        return plugin.manifest.worker.transport == "rpc" and self._workers.phase(plugin.id) is Phase.RUNNING


def plain_problem(config: Mapping[str, Any]) -> Problem | None:
    """Why it cannot be stored and sent, or None."""
    if problem := profile_problem([config], _MAX_DEPTH):
        return Problem(
            path=_WHOLE, message=f"{problem}; a configuration has plain values, nested {_MAX_DEPTH} deep at most"
        )
    try:
        size = len(packed_config(config))
    except InvalidParams as error:
        return Problem(path=_WHOLE, message=error.message)
    if size > MAX_CONFIG_BYTES:
        message = (
            f"has {size} bytes, {MAX_CONFIG_BYTES} is the most there may be: keep what is long in a file, and refer to "
            "it as $file:/some/where"
        )
        return Problem(path=_WHOLE, message=message)
    return None


def hidden(error: SupervisorError, given: GivenConfig) -> SupervisorError:
    """The same without what no message may say."""
    return error_from_code(error.code, hide(error.message, given.secrets), hide(dict(error.details), given.secrets))


async def schema_problems(checks: SchemaChecks, manifest: Manifest, resolved: Resolved) -> list[Problem]:
    """By the schema, without values."""
    try:
        await checks.validate(manifest.key, manifest.config_schema, resolved.config, "the configuration")
    except InvalidParams as error:
        told = error.details.get("problems") or [{"path": _WHOLE, "message": error.message}]
        return [Problem(path=problem["path"], message=problem["message"]) for problem in told]
    return []


def _read_answer(plugin: Plugin, answer: Any, given: GivenConfig) -> list[Problem]:
    listed = answer.get("problems") if isinstance(answer, dict) else None
    if not isinstance(listed, list) or not all(map(_is_problem, listed)):
        raise PluginError(
            f"the worker of plugin {plugin.key!r} answered {VALIDATE_CONFIG} with rubbish: expected "
            "{problems: [{path, message}, …]}",
            plugin=plugin.key,
        )
    return [
        Problem(
            path=hide(problem["path"], given.secrets)[:_MAX_PATH] or _WHOLE,
            message=hide(problem["message"], given.secrets)[:_MAX_MESSAGE],
        )
        for problem in listed[:_MAX_PROBLEMS]
    ]


def _is_problem(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("path"), str) and isinstance(value.get("message"), str)
