"""For plugin authors: a `Plugin`, its decorators, and `run`.

A handler gets a context: `RunContext` in a job, `Context` elsewhere. What plugind refuses is raised as the class of
`supervisor.core.errors` with that code, such as `PermissionDenied`; the ones an author may raise are exported here.
"""

from supervisor.core.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidParams,
    NotFound,
    PermissionDenied,
    PluginError,
    SupervisorError,
)
from supervisor.sdk.context import Cancelled, Context, RunContext
from supervisor.sdk.plugin import Plugin
from supervisor.sdk.runner import run

__all__ = [
    "AlreadyExists",
    "Cancelled",
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
