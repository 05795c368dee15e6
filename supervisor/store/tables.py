"""Tables: the rows as peewee models, seen by `store/` only.

The schema itself is in `migrations.py`. Models have no connection of their own: inside `Database.transact` and
`Database.read` they use that call's connection, anywhere else they fail. Instants are integers: UTC milliseconds.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgpack
import peewee

# Thread-local, since each connection belongs to one thread; set only while a function of ours runs on it, so two
# databases in one process never see each other's.
_bound = threading.local()


class _BoundDatabase(peewee.DatabaseProxy):
    __slots__ = ("_callbacks",)

    def __init__(self) -> None:
        self._callbacks: list[Any] = []

    @property
    def obj(self) -> Any:
        return getattr(_bound, "database", None)


current: Final = _BoundDatabase()
"""The database of the transaction or read that runs in this thread; its `execute_sql` is for fixed, hot statements."""


@contextmanager
def bound_to(database: peewee.SqliteDatabase) -> Iterator[None]:
    """Within the block, and in this thread, the models use `database`."""
    before = getattr(_bound, "database", None)
    _bound.database = database
    try:
        yield
    finally:
        _bound.database = before


def pack(value: Any) -> bytes:
    """The stored form of plain values; bytes survive, which JSON could not do.

    Raises:
        ValueError, TypeError, OverflowError: a value that msgpack cannot hold.
    """
    return bytes(msgpack.packb(value))


def unpack(data: bytes) -> Any:
    return msgpack.unpackb(data, strict_map_key=False)


class MsgpackField(peewee.Field):
    """Any plain value. None is stored as NULL and means absent."""

    field_type = "BLOB"

    def db_value(self, value: Any) -> bytes | None:
        return None if value is None else pack(value)

    def python_value(self, value: bytes | None) -> Any:
        return None if value is None else unpack(value)


class BytesField(peewee.Field):
    field_type = "BLOB"


class JsonField(peewee.TextField):
    def db_value(self, value: Any) -> str | None:
        return None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    def python_value(self, value: str | None) -> Any:
        return None if value is None else json.loads(value)


class _Table(peewee.Model):
    class Meta:
        database = current
        legacy_table_names = False


class PluginRow(_Table):
    id = peewee.TextField(primary_key=True)
    key = peewee.TextField()
    version = peewee.TextField()
    status = peewee.TextField()
    manifest = JsonField()
    package_dir = peewee.TextField()
    install_order = peewee.IntegerField()
    last_error = peewee.TextField(null=True)
    disable_reason = peewee.TextField(null=True)
    recoverable = peewee.BooleanField()
    installed_at_ms = peewee.IntegerField()
    updated_at_ms = peewee.IntegerField()
    editable = peewee.TextField(null=True)
    staged_dir = peewee.TextField(null=True)
    probation_until_ms = peewee.IntegerField(null=True)

    class Meta:
        table_name = "plugin"


class PluginVersionRow(_Table):
    package_dir = peewee.TextField(primary_key=True)
    plugin_id = peewee.TextField()
    manifest = JsonField()
    digest = peewee.TextField()
    files = MsgpackField(null=True)
    """A list of [path, size, sha256, executable, link]."""
    source = peewee.TextField()
    editable = peewee.TextField(null=True)
    index_url = peewee.TextField(null=True)
    find_links = JsonField()
    previous_dir = peewee.TextField(null=True)
    stored_at_ms = peewee.IntegerField()
    activated_at_ms = peewee.IntegerField(null=True)

    class Meta:
        table_name = "plugin_version"


class IntentRow(_Table):
    id = peewee.AutoField()
    kind = peewee.TextField()
    plugin_key = peewee.TextField()
    package_dirs = JsonField()
    data = peewee.BooleanField()
    """Its data directory and logs go too."""
    begun_at_ms = peewee.IntegerField()

    class Meta:
        table_name = "intent"


class ApprovalRow(_Table):
    id = peewee.AutoField()
    plugin_id = peewee.TextField()
    capability = peewee.TextField()
    uid = peewee.IntegerField(null=True)
    approved_at_ms = peewee.IntegerField()

    class Meta:
        table_name = "approval"


class ConfigRow(_Table):
    plugin_id = peewee.TextField(primary_key=True)
    data = MsgpackField()
    revision = peewee.IntegerField()
    uid = peewee.IntegerField(null=True)
    updated_at_ms = peewee.IntegerField()

    class Meta:
        table_name = "config"


class ConfigRevisionRow(_Table):
    plugin_id = peewee.TextField()
    revision = peewee.IntegerField()
    data = MsgpackField()
    uid = peewee.IntegerField(null=True)
    good = peewee.BooleanField()
    set_at_ms = peewee.IntegerField()

    class Meta:
        table_name = "config_revision"
        primary_key = peewee.CompositeKey("plugin_id", "revision")


class JobRow(_Table):
    id = peewee.TextField(primary_key=True)
    plugin_id = peewee.TextField()
    key = peewee.TextField()
    spec = JsonField()
    active = peewee.BooleanField()
    paused = peewee.BooleanField()
    next_due_ms = peewee.IntegerField(null=True)
    next_fire_ms = peewee.IntegerField(null=True)
    last_due_ms = peewee.IntegerField(null=True)
    served_from_ms = peewee.IntegerField(null=True)
    timing = peewee.TextField()
    trimmed_to_ms = peewee.IntegerField()
    created_at_ms = peewee.IntegerField()
    updated_at_ms = peewee.IntegerField()

    class Meta:
        table_name = "job"


class JobRunRow(_Table):
    id = peewee.TextField(primary_key=True)
    job_id = peewee.TextField()
    plugin_id = peewee.TextField()
    plugin_key = peewee.TextField()
    job_key = peewee.TextField()
    trigger = peewee.TextField()
    state = peewee.TextField()
    attempt = peewee.IntegerField()
    due_ms = peewee.IntegerField()
    created_ms = peewee.IntegerField()
    started_ms = peewee.IntegerField(null=True)
    finished_ms = peewee.IntegerField(null=True)
    error = peewee.TextField(null=True)
    result = MsgpackField(null=True)
    times = peewee.IntegerField()
    retry_at_ms = peewee.IntegerField(null=True)
    exit_code = peewee.IntegerField(null=True)
    params = MsgpackField(null=True)

    class Meta:
        table_name = "job_run"


class JobSyncRow(_Table):
    plugin_id = peewee.TextField(primary_key=True)
    source = peewee.TextField()

    class Meta:
        table_name = "job_sync"


class JobHoldRow(_Table):
    plugin_id = peewee.TextField(primary_key=True)
    uid = peewee.IntegerField(null=True)
    held_at_ms = peewee.IntegerField()

    class Meta:
        table_name = "job_hold"


class SchedulerRow(_Table):
    id = peewee.IntegerField(primary_key=True)
    clock_ms = peewee.IntegerField()
    held_at_ms = peewee.IntegerField(null=True)
    held_by_uid = peewee.IntegerField(null=True)
    zones = JsonField()

    class Meta:
        table_name = "scheduler"


class EventRow(_Table):
    seq = peewee.AutoField()
    at_ms = peewee.IntegerField()
    type = peewee.TextField()
    plugin_id = peewee.TextField()
    plugin_key = peewee.TextField()
    data = MsgpackField()
    job = peewee.TextField(null=True)
    """As <plugin>/<key>."""

    class Meta:
        table_name = "event"


class AuditRow(_Table):
    seq = peewee.AutoField()
    at_ms = peewee.IntegerField()
    uid = peewee.IntegerField()
    pid = peewee.IntegerField()
    exe = peewee.TextField(null=True)
    client = peewee.TextField(null=True)
    role = peewee.TextField()
    method = peewee.TextField()
    target = peewee.TextField(null=True)
    result = peewee.TextField(null=True)
    """None: it has not ended."""
    message = peewee.TextField(null=True)
    request_id = peewee.TextField(null=True)
    duration_ms = peewee.IntegerField(null=True)

    class Meta:
        table_name = "audit"


class PluginStateRow(_Table):
    plugin_id = peewee.TextField()
    key = peewee.TextField()
    value = BytesField()
    """Packed: a stored None is a value too."""
    size = peewee.IntegerField()
    revision = peewee.IntegerField()
    updated_at_ms = peewee.IntegerField()

    class Meta:
        table_name = "plugin_state"
        primary_key = peewee.CompositeKey("plugin_id", "key")


class ClientRequestRow(_Table):
    uid = peewee.IntegerField()
    request_id = peewee.TextField()
    method = peewee.TextField()
    digest = BytesField(null=True)
    state = peewee.TextField()
    outcome = BytesField(null=True)
    created_at_ms = peewee.IntegerField()

    class Meta:
        table_name = "client_request"
        primary_key = peewee.CompositeKey("uid", "request_id")


class WorkerProcessRow(_Table):
    plugin_id = peewee.TextField()
    pid = peewee.IntegerField()
    start_ticks = peewee.IntegerField()
    boot_id = peewee.TextField()

    class Meta:
        table_name = "worker_process"
        primary_key = peewee.CompositeKey("plugin_id", "pid")
