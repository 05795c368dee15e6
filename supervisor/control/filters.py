"""Which events a client asks for: names of plugins and jobs -> what the journal knows them by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from supervisor.store.event_filters import Filters
from supervisor.store.plugins import PluginRegistry
from supervisor.wire import control

JobName = Callable[[str], Awaitable[str]]
"""<plugin>/<key> of a job that is named so or by its id; NotFound if there is none."""


async def event_filters(
    request: control.EventsList | control.EventsSubscribe, registry: PluginRegistry, job_name: JobName
) -> Filters:
    """
    Raises:
        InvalidParams: they are too many or too long.
        NotFound: there is no such plugin or job.
    """
    # Before they are looked up: that is for as many as anybody needs.
    Filters(request.types, request.plugins, request.jobs).check()
    plugins = [registry.get(name).id for name in request.plugins]
    jobs = [await job_name(name) for name in request.jobs]
    return Filters(request.types, plugins, jobs)
