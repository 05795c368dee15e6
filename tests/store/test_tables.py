from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import peewee
import pytest

from supervisor.store import tables
from supervisor.store.migrations import migrate

MODELS = [model for model in vars(tables).values() if isinstance(model, type) and issubclass(model, tables._Table)]


@pytest.mark.parametrize("model", [model for model in MODELS if model is not tables._Table])
def test_models_name_the_columns_that_the_schema_has(model: Any) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, 0)
        columns = connection.execute(f"PRAGMA table_info({model._meta.table_name})").fetchall()
    schema = {name: bool(not_null) for _, name, _, not_null, _, primary in columns if not primary}
    fields = {field.column_name: not field.null for field in model._meta.sorted_fields}
    keys = {field.column_name for field in model._meta.get_primary_keys()}
    assert {name: field for name, field in fields.items() if name not in keys} == schema
    assert keys == {name for _, name, _, _, _, primary in columns if primary}


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -(2**63), 2**64 - 1, 1.5, "ü\0", b"\xff", [], {}, {"a": [{"b": b""}]}, {1: 2}, "x" * 100_000],
)
def test_every_plain_value_survives(value: object) -> None:
    assert tables.unpack(tables.pack(value)) == value


def test_binding_nests_and_ends() -> None:
    one, two = peewee.SqliteDatabase(":memory:"), peewee.SqliteDatabase(":memory:")
    with tables.bound_to(one):
        with tables.bound_to(two):
            assert tables.current.obj is two
        assert tables.current.obj is one
    assert tables.current.obj is None
