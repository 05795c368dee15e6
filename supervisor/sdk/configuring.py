"""@validate_config and @on_config_changed: their arguments, and what they return as plugind is told it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from supervisor.core.errors import InvalidParams, MethodNotFound
from supervisor.sdk.plugin import Plugin, is_async

HOOKS: Final = {"validate_config": "validate_config", "config_changed": "on_config_changed"}
"""Method -> the hook that answers it."""
_WHOLE: Final = "(the whole)"


def config_hook(plugin: Plugin, method: str) -> Callable[..., Any]:
    """
    Raises:
        MethodNotFound: the plugin declares none; plugind knows what to do then.
    """
    hook: Callable[..., Any] | None = plugin.config_hooks.get(HOOKS[method])
    if hook is None:
        raise MethodNotFound(f"the plugin has no @plugin.{HOOKS[method]}", method=method)
    return hook


def given(params: Mapping[str, Any]) -> dict[str, Any]:
    """
    Raises:
        InvalidParams: there is no configuration in it.
    """
    config = params.get("config")
    if not isinstance(config, dict):
        raise InvalidParams("config must be a map", param="config")
    return config


def reading(hook: Callable[..., Any], config: dict[str, Any], read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`hook` with `config`, whose outcome is what `read` makes of it; async if the hook is."""

    async def later(context: Any) -> Any:
        return read(await hook(context, config))

    def now(context: Any) -> Any:
        outcome = hook(context, config)
        return outcome if hasattr(outcome, "__await__") else read(outcome)

    return later if is_async(hook) else now


def problems_of(outcome: Any) -> dict[str, Any]:
    """What a validate_config hook has returned, for plugind.

    Raises:
        TypeError: it is nothing that a hook may return.
    """
    if outcome is None:
        return {"problems": []}
    listed = outcome if isinstance(outcome, list) else [outcome]
    return {"problems": [_problem(one) for one in listed]}


def _problem(one: Any) -> dict[str, str]:
    match one:
        case str(message):
            return {"path": _WHOLE, "message": message}
        case (str(path), str(message)):
            return {"path": path, "message": message}
    raise TypeError(
        f"validate_config must return None, a text, or a list of texts or (path, text), not a {type(one).__name__}"
    )
