"""References in a configuration: what they stand for, and which are refused. On the real clock: threads read files."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from supervisor.core.errors import FailedPrecondition
from supervisor.core.plugin import Capability
from supervisor.lifecycle import config_references
from supervisor.lifecycle.config_giver import ConfigGiver, given_config
from supervisor.lifecycle.config_references import MAX_FILE_BYTES, References, Resolved
from supervisor.store.configs import StoredConfig
from tests.worker.fakes import make_plugin

UID = os.geteuid()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """As pytest's own directories may be below one of somebody else's, nobody's but ours."""
    (tmp_path / "token").write_text("s3cret\n")
    (tmp_path / "token").chmod(0o600)
    return tmp_path


async def resolve(config: dict[str, Any], credentials: Path | None = None) -> Resolved:
    with trio.fail_after(20):
        return await References(str(credentials) if credentials else None, uid=UID).resolve(config)


async def test_resolved_wherever_they_stand(place: Path) -> None:
    reference = f"$file:{place}/token"
    config = {"a": reference, "b": {"c": [reference, {"d": "$credential:token"}]}, "e": f"x{reference}", "f": 1}
    found = await resolve(config, place)
    assert found.config == {
        "a": "s3cret",
        "b": {"c": ["s3cret", {"d": "s3cret"}]},
        "e": f"x{reference}",
        "f": 1,
    }
    assert ("s3cret" in found.learnt, found.problems) == (True, ())
    assert config["a"] == reference


@pytest.mark.parametrize(
    ("written", "meant"),
    [("$$file:/a", "$file:/a"), ("$$$x", "$$x"), ("$$", "$"), ("$2b$12$hash", "$2b$12$hash"), ("a$$b", "a$$b")],
)
async def test_a_dollar_escapes(written: str, meant: str) -> None:
    assert (await resolve({"x": [written]})).config == {"x": [meant]}


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"", ""),
        (b"\n", ""),
        (b"a\n\n", "a\n"),
        (b" a ", " a "),
        (b"a\r\n", "a\r"),
        (b"x" * MAX_FILE_BYTES, "x" * MAX_FILE_BYTES),
    ],
)
async def test_one_newline_at_the_end_is_dropped(place: Path, content: bytes, value: str) -> None:
    (place / "token").write_bytes(content)
    assert (await resolve({"x": f"$file:{place}/token"})).config == {"x": value}


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("$file:{place}/none", "No such file or directory"),
        ("$file:{place}", "is no regular file"),
        ("$file:{place}/pipe", "is no regular file"),
        ("$file:{place}/large", "has more than 65536 bytes"),
        ("$file:{place}/latin", "is not UTF-8"),
        ("$file:{place}/shared", "may be written by others"),
        ("$file:{place}/round", "too many links"),
        ("$file:{place}/../{name}/token", "has '..' in it"),
        ("$file:token", "is no absolute path"),
        ("$file:", "is no absolute path"),
        ("$file:/a\0b", "is no absolute path"),
        ("$credential:", "is no name of a credential"),
        ("$credential:..", "is no name of a credential"),
        ("$credential:a/b", "is no name of a credential"),
        ("$credential:none", "No such file or directory"),
    ],
)
async def test_what_cannot_be_read_is_named_without_what_is_in_it(place: Path, reference: str, why: str) -> None:
    os.mkfifo(place / "pipe")
    (place / "large").write_bytes(b"s3cret" * 20_000)
    (place / "latin").write_bytes(b"s3cret\xff")
    (place / "shared").write_text("s3cret")
    (place / "shared").chmod(0o666)
    (place / "round").symlink_to(place / "round")
    reference = reference.format(place=place, name=place.name)
    found = await resolve({"db": {"password": reference}}, place)
    [problem] = found.problems
    assert problem.path == "db.password"
    assert problem.message.startswith(reference)
    assert why in problem.message
    assert "s3cret" not in problem.message
    assert found.config["db"]["password"] == reference


async def test_without_credentials_the_way_out_is_told() -> None:
    [problem] = (await resolve({"x": "$credential:token"})).problems
    assert "LoadCredential=" in problem.message


async def test_a_link_of_ours_is_followed(place: Path) -> None:
    (place / "links").mkdir()
    (place / "links" / "a").symlink_to("../token")
    (place / "b").symlink_to(place / "links")
    assert (await resolve({"x": f"$file:{place}/b/a"})).config == {"x": "s3cret"}


@pytest.mark.skipif(UID != 0, reason="only root can make files of somebody else's")
@pytest.mark.parametrize("what", ["file", "link", "directory"])
async def test_what_another_user_could_change_is_refused(place: Path, what: str) -> None:
    (place / "d").mkdir()
    (place / "d" / "link").symlink_to(place / "token")
    path = {"file": place / "token", "link": place / "d" / "link", "directory": place / "d"}[what]
    os.chown(path, 65534, 65534, follow_symlinks=False)
    [problem] = (await resolve({"x": f"$file:{place}/d/link"})).problems
    assert "belongs to " in problem.message


async def test_all_together_have_a_limit(place: Path) -> None:
    for n in range(17):
        (place / f"f{n:02}").write_bytes(b"x" * MAX_FILE_BYTES)
    found = await resolve({f"f{n:02}": f"$file:{place}/f{n:02}" for n in range(17)})
    assert [(problem.path, "all references together" in problem.message) for problem in found.problems] == [
        ("f16", True)
    ]


async def test_a_file_system_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    import threading

    release = threading.Event()
    monkeypatch.setattr(config_references, "_READING_S", 0.1)
    monkeypatch.setattr(config_references, "_read_file", lambda *_: release.wait(30) and b"")
    try:
        [problem] = (await resolve({"x": f"$file:{place}/token"})).problems
        assert "was not read within 0.1 s" in problem.message
    finally:
        release.set()


# --- what a worker is told ---


class Stored:
    """ConfigStore's face."""

    def __init__(self, data: dict[str, Any], revision: int = 3) -> None:
        self.data, self.revision = data, revision

    async def get(self, _: Any) -> StoredConfig:
        return StoredConfig(data=self.data, revision=self.revision)


async def test_a_worker_is_told_values_and_what_is_missing(place: Path) -> None:
    stored = Stored({"token": f"$file:{place}/token", "city": f"$file:{place}/token"})
    plugin = make_plugin()
    manifest = replace(
        plugin.manifest,
        capabilities=(Capability("secrets.read"),),
        config_schema={"properties": {"token": {"writeOnly": True}}},
    )
    trusted = replace(plugin, manifest=manifest, approved=frozenset({Capability("secrets.read")}))
    giver = ConfigGiver(stored, References(None, uid=UID))  # type: ignore[arg-type]
    given = await giver.given(trusted)
    assert (given.config, given.revision, given.is_new) == ({"token": "s3cret", "city": "s3cret"}, 3, True)
    assert "s3cret" in given.secrets
    assert "s3cret" not in repr(given)
    assert await giver.secrets(trusted) == {"token": "s3cret"}
    assert (await giver.given(replace(trusted, approved=frozenset()))).config == {"city": "s3cret"}
    (place / "token").unlink()
    for ask in (giver.given, giver.given_at_start, giver.secrets):
        with pytest.raises(FailedPrecondition, match=r"token: \$file:.*token: No such file or directory"):
            await ask(trusted)


def test_what_is_hidden_is_every_secret_value() -> None:
    plugin = make_plugin()
    manifest = replace(plugin.manifest, config_schema={"properties": {"db": {"writeOnly": True}}})
    config = {"db": {"a": ["x1"], "b": 77}, "c": "plain"}
    given = given_config(replace(plugin, manifest=manifest), Resolved(config=config, learnt=frozenset({"learnt"})))
    assert given.secrets == {"x1", "77", "learnt"}
    assert given.config == {"c": "plain"}


async def test_a_worker_does_not_start_with_what_does_not_fit(place: Path) -> None:
    plugin = make_plugin()
    schema = {"properties": {"token": {"type": "string", "maxLength": 6, "writeOnly": True}}, "required": ["token"]}
    plugin = replace(plugin, manifest=replace(plugin.manifest, config_schema=schema))
    references, stored = References(None, uid=UID), Stored({"token": f"$file:{place}/token"})
    giver = ConfigGiver(stored, references)  # type: ignore[arg-type]
    assert "s3cret" in (await giver.given_at_start(plugin)).secrets
    (place / "token").write_text("much-longer-s3cret")
    with pytest.raises(FailedPrecondition) as caught:
        await giver.given_at_start(plugin)
    words = caught.value.message
    assert words.startswith(f"revision 3 does not fit the config_schema of version {plugin.version}: token: ")
    assert f"pluginctl config set {plugin.key} " in words
    assert "s3cret" not in f"{words} {caught.value.details}"
    assert [problem["path"] for problem in caught.value.details["problems"]] == ["token"]
    # One that runs may ask for it all the same.
    assert "much-longer-s3cret" in (await giver.given(plugin)).secrets
    # A schema of an upgraded version; and where nothing was ever set, nothing is checked.
    stored.data = {}
    with pytest.raises(FailedPrecondition, match="'token' is a required property"):
        await giver.given_at_start(plugin)
    stored.revision = 0
    assert (await giver.given_at_start(plugin)).config == {}


@pytest.mark.parametrize(
    "path", ["/proc/self/environ", "/proc/sys/kernel/ostype", "/sys/kernel/mm/transparent_hugepage/enabled"]
)
async def test_what_the_kernel_makes_up_is_no_file(path: str) -> None:
    if not os.access(path, os.F_OK):
        pytest.skip(f"there is no {path}")
    found = await resolve({"x": f"$file:{path}"})
    assert "the kernel makes up" in found.problems[0].message
    assert found.learnt == frozenset()
