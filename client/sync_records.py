"""The methods of the blocking client that look back or follow, typed; they answer what supervisor.wire.results says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from client.sync_nouns import Noun

TYPE_CHECKING = False  # type checkers know the name; `typing` itself is not needed here
if TYPE_CHECKING:
    from typing import Any

    from client.cursor import OnNotice
    from client.sync_stream import EventStream, Follow, LogStream
    from supervisor.wire import results

    # `list` is a method in some of these classes.
    AuditEntries = list[results.AuditEntry]
    LogLines = list[results.LogLine]


class Events(Noun):
    """The journal of events. Called, it follows them: `with client.events(after=seq) as stream`."""

    def __init__(self, call: Callable[..., Any], follow: Follow) -> None:
        super().__init__(call)
        self._follow = follow

    def __call__(
        self,
        after: int | None = None,
        types: Sequence[str] = (),
        plugins: Sequence[str] = (),
        jobs: Sequence[str] = (),
        *,
        reconnect_for_s: float | None = None,
    ) -> EventStream:
        """Events as they happen, on a connection of their own; use it in a `with` and iterate.

        Begins after the event with the seq `after` (None: with what is new). `types` are globs, `plugins` keys or ids,
        `jobs` names or ids; empty means all. A lost connection is made again, for at most `reconnect_for_s` seconds
        (None: for ever), and resumes where it was.
        """
        from client.sync_stream import EventStream

        return EventStream(
            self._follow,
            after_seq=after,
            types=types,
            plugins=plugins,
            jobs=jobs,
            reconnect_for_s=reconnect_for_s,
        )

    def list(
        self,
        after_seq: int | None = None,
        types: Sequence[str] = (),
        plugins: Sequence[str] = (),
        limit: int = 100,
        jobs: Sequence[str] = (),
        before_seq: int | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> results.EventPage:
        """Events after `after_seq`, or since `since_ms`, oldest first; with neither the newest ones.

        `before_seq` and `until_ms` end what is looked at: neither that event nor what came later is in it. `types` are
        globs, `plugins` keys or ids, `jobs` names or ids of jobs; empty means all.
        """
        return self._call(
            "events.list",
            after_seq=after_seq,
            types=list(types),
            plugins=list(plugins),
            limit=limit,
            jobs=list(jobs),
            before_seq=before_seq,
            since_ms=since_ms,
            until_ms=until_ms,
        )


class Audit(Noun):
    """The record of every change that was asked for."""

    def list(
        self,
        before: int | None = None,
        limit: int = 100,
        methods: Sequence[str] = (),
        uid: int | None = None,
        target: str | None = None,
        result: str | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> AuditEntries:
        """Who has changed what, newest first; `before`, the number of an entry, pages on from that one.

        `methods` are globs; `target` is what a change was about, such as a plugin's key; `result` is `ok`, the name of
        an error, `cut_short` by the daemon's end, or `under_way`.
        """
        return self._call(
            "audit.list",
            before=before,
            limit=limit,
            methods=list(methods),
            uid=uid,
            target=target,
            result=result,
            since_ms=since_ms,
            until_ms=until_ms,
        )


class Logs(Noun):
    """Plugins' logs. Called, it follows one: `with client.logs("acme.weather", tail=20) as stream`."""

    def __init__(self, call: Callable[..., Any], follow: Follow) -> None:
        super().__init__(call)
        self._follow = follow

    def __call__(
        self,
        plugin: str,
        tail: int | None = None,
        since_ms: int | None = None,
        level: str | None = None,
        run: str | None = None,
        stream: str | None = None,
        *,
        reconnect_for_s: float | None = None,
        on_notice: OnNotice | None = None,
    ) -> LogStream:
        """A plugin's log as it grows, on a connection of its own; use it in a `with` and iterate.

        With `tail` the last so many lines come first, with `since_ms` all since then, with both the last so many since
        then; else only what is new. `level` is this one and above. The stream goes on over rotations, restarts of the
        worker and of the daemon: a lost connection is made again, for at most `reconnect_for_s` seconds (None: for
        ever), and resumes where it was. No line is missed or repeated, unless it was rotated away before it could be
        sent; that, and a connection that is lost or back, is told to `on_notice` in a sentence.
        """
        from client.sync_stream import LogStream

        return LogStream(
            self._follow,
            begin={"tail": tail, "since_ms": since_ms},
            filters={"plugin": plugin, "level": level, "run": run, "stream": stream},
            reconnect_for_s=reconnect_for_s,
            on_notice=on_notice,
        )

    def read(
        self,
        plugin: str,
        tail: int = 100,
        since_ms: int | None = None,
        level: str | None = None,
        run: str | None = None,
        until_ms: int | None = None,
        stream: str | None = None,
    ) -> LogLines:
        """The last `tail` lines of a plugin's log, oldest first, filtered by time, level (and above), run and stream.

        If they do not fit into one answer, the newest of them come.
        """
        return self._call(
            "logs.read",
            plugin=plugin,
            tail=tail,
            since_ms=since_ms,
            level=level,
            run=run,
            until_ms=until_ms,
            stream=stream,
        )
