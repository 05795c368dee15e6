"""For plugin authors: a `Plugin`, its decorators, and `run`.

A handler that is a plain function runs in a thread and gets a context: `RunContext` in a job, `Context` elsewhere. One
that is an `async def` runs in a trio event loop and gets `AsyncRunContext` or `AsyncContext`. What plugind refuses is
raised as the class of `supervisor.core.errors` with that code, such as `PermissionDenied`; the ones an author may raise
are exported here. `supervisor.sdk.testing` is for tests of a plugin.
"""

from supervisor.core.errors import (
    AlreadyExists,
    Conflict,
    FailedPrecondition,
    InvalidParams,
    NotFound,
    PermissionDenied,
    PluginError,
    SupervisorError,
)
from supervisor.sdk.async_context import AsyncContext, AsyncRunContext
from supervisor.sdk.context import Cancelled, Context, RunContext
from supervisor.sdk.plugin import Plugin
from supervisor.sdk.runner import run

__all__ = [
    "AlreadyExists",
    "AsyncContext",
    "AsyncRunContext",
    "Cancelled",
    "Conflict",
    "Context",
    "FailedPrecondition",
    "InvalidParams",
    "NotFound",
    "PermissionDenied",
    "Plugin",
    "PluginError",
    "RunContext",
    "SupervisorError",
    "run",
]
