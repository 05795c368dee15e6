"""What an operator may name to install from, and what he is told otherwise."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.errors import InvalidParams
from supervisor.lifecycle.said import Said
from supervisor.lifecycle.sources import SourceKind, index_url_problem, mask_credentials, read_source
from tests.packages import directory_source

HASH = "sha256:" + "a1" * 32


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.tar.gz", SourceKind.ARCHIVE),
        ("a.TGZ", SourceKind.ARCHIVE),
        ("a.tar", SourceKind.ARCHIVE),
        ("a.zip", SourceKind.ARCHIVE),
        ("a-1-py3-none-any.whl", SourceKind.WHEEL),
    ],
)
def test_files_by_their_names(tmp_path: Path, name: str, kind: SourceKind) -> None:
    (tmp_path / name).touch()
    source = read_source(f"{tmp_path}//x/../{name}", hashes=[HASH.upper().replace("SHA", "sha")])
    assert (source.kind, source.path, source.requirement) == (kind, tmp_path / name, None)
    assert source.hashes == (HASH,)


def test_a_directory(tmp_path: Path) -> None:
    assert read_source(str(tmp_path)) == directory_source(tmp_path)
    assert read_source(str(tmp_path), editable=True).editable
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    assert read_source(str(link)).kind is SourceKind.DIRECTORY


@pytest.mark.parametrize("text", ["acme", "acme-weather>=1.2,<2", "acme[fast]==1.0", "acme ; python_version >= '3'"])
def test_requirements(text: str, tmp_path: Path) -> None:
    page = "https://example.org/wheels/"
    source = read_source(text, index_url="https://u:p@example.org/simple", find_links=[str(tmp_path), page])
    assert (source.kind, source.path, source.text) == (SourceKind.REQUIREMENT, None, text)
    assert source.requirement is not None
    assert source.requirement.startswith("acme")
    assert source.find_links == (str(tmp_path), page)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("/no/such/place", "there is no file or directory /no/such/place"),
        ("/tmp/a\0b", r"control character \('\\x00'\)"),
        ("acme\n--index-url=https://evil.example", "control character"),
        ("--index-url=https://evil.example acme", "looks like an option"),
        ("-r /etc/passwd", "looks like an option"),
        ("acme --index-url=https://evil.example", "nor one requirement"),
        ("acme --hash=sha256:00", "nor one requirement"),
        ("acme beta", "nor one requirement"),
        ("acme, beta", "nor one requirement"),
        ("acme>=", "nor one requirement"),
        ("./acme", "no absolute path: begin it with '/'"),
        ("../acme", "no absolute path"),
        ("~/acme", "no absolute path"),
        ("acme @ https://example.org/acme.whl", "names a URL"),
        ("acme @ file:///etc/passwd", "names a URL"),
        ("https://example.org/acme.tar.gz", "plugins are not fetched from URLs"),
        ("git+ssh://git@example.org/acme", "plugins are not fetched from URLs"),
        ("acme; python_version < '3'", "its marker"),
        ("acme; sys_platform == 'win32'", "its marker"),
        ("/dev/null", "neither a file nor a directory"),
        ("a" * 5000, "longer than 4096"),
    ],
)
def test_what_is_no_source(text: str, why: str) -> None:
    with pytest.raises(InvalidParams, match=why):
        read_source(text)


def test_files_that_are_no_packages(tmp_path: Path) -> None:
    for name, why in (("plugin.toml", f"name its directory, {tmp_path}"), ("a.exe", r"no \.whl, \.tar\.gz")):
        (tmp_path / name).touch()
        with pytest.raises(InvalidParams, match=why):
            read_source(str(tmp_path / name))
    os.mkfifo(tmp_path / "a.zip")
    with pytest.raises(InvalidParams, match="neither a file nor a directory"):
        read_source(str(tmp_path / "a.zip"))
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InvalidParams, match="cannot be looked at"):
        read_source(str(tmp_path / "loop"))


def test_what_does_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(InvalidParams, match="has no hash"):
        read_source(str(tmp_path), hashes=[HASH])
    with pytest.raises(InvalidParams, match="only a directory can be run in place"):
        read_source("acme", editable=True)
    (tmp_path / "a.zip").touch()
    with pytest.raises(InvalidParams, match="only a directory can be run in place"):
        read_source(str(tmp_path / "a.zip"), editable=True)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"hashes": ["md5:" + "0" * 32]}, "sha256: and 64 hex digits"),
        ({"hashes": ["sha256:" + "0" * 63]}, "sha256: and 64 hex digits"),
        ({"hashes": ["0" * 64]}, "sha256: and 64 hex digits"),
        ({"hashes": [HASH + "\n"]}, "sha256: and 64 hex digits"),
        ({"index_url": "--extra-index-url=https://evil.example"}, "must begin with https"),
        ({"index_url": "ftp://example.org/"}, "must begin with https"),
        ({"index_url": "https://"}, "must begin with https"),
        ({"index_url": "file://host/simple"}, "must begin with https"),
        ({"index_url": "https://example.org/ --pre"}, "spaces or control characters"),
        ({"index_url": "https://[::1"}, "is no address"),
        ({"index_url": "https://example.org/\0"}, "spaces or control characters"),
        ({"find_links": ["wheels"]}, "is no absolute path"),
        ({"find_links": ["--pre"]}, "is no absolute path"),
        ({"find_links": [""]}, "is empty"),
        ({"find_links": ["/no/such/place"]}, "there is nothing at /no/such/place"),
        ({"find_links": ["file:///no/such%20place"]}, "there is nothing at"),
        ({"find_links": ["https://u:secret@example.org/"]}, "holds credentials"),
    ],
)
def test_what_is_wrong_beside_the_source(more: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidParams, match=why) as caught:
        read_source("acme", **more)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("https://me:secret@example.org/a.zip", {}),
        ("acme @ https://me:secret@example.org/a.whl", {}),
        ("acme --index-url=https://me:secret@example.org/", {}),
        ("acme", {"index_url": "http://usr:pa/secret@127.0.0.1:9/simple"}),
        ("acme", {"index_url": "http://usr:12/secret@127.0.0.1:9/simple"}),
        ("acme", {"find_links": ["http://usr:12/secret@127.0.0.1:9/simple"]}),
        ("acme @ http://usr:pa/secret@127.0.0.1/a.whl", {}),
        ("acme", {"index_url": "gopher://me:secret@example.org/"}),
        ("acme", {"index_url": "https://me:sec ret@example.org/secret"}),
    ],
)
def test_no_message_tells_a_password(text: str, more: dict[str, Any]) -> None:
    with pytest.raises(InvalidParams) as caught:
        read_source(text, **more)
    assert "secret@" not in f"{caught.value.message} {dict(caught.value.details)}"
    assert "ret@" not in caught.value.message


def test_masks_every_url_of_a_line() -> None:
    line = "Looking in indexes: https://a:b@one.example/simple, http://t%40ken@two.example:8080/x@y and me@example.org"
    masked = "Looking in indexes: https://***@one.example/simple, http://***@two.example:8080/x@y and me@example.org"
    assert mask_credentials(line) == masked
    assert mask_credentials("https://u:p@ss@host/") == "https://***@host/"


def test_an_index() -> None:
    assert [
        index_url_problem(url) for url in ("https://a.example/simple", "http://[::1]:80/", "file:///srv/simple")
    ] == [
        None,
        None,
        None,
    ]


def test_masks_a_password_with_a_slash() -> None:
    assert mask_credentials("at http://u:pa/S3@host/x, 'http://h:80/a@b'") == "at http://***@host/x, 'http://h:80/a@b'"


@pytest.mark.parametrize("end", ["\x85", "\u2028", "\u2029", "\x0b"])
def test_nothing_ends_a_line(end: str) -> None:
    for text, more in ((f"acme{end}-r x", {}), ("acme", {"index_url": f"https://h/{end}x"})):
        with pytest.raises(InvalidParams, match="control character"):
            read_source(text, **more)  # type: ignore[arg-type]


def test_a_known_password_is_masked_wherever_it_stands() -> None:
    said = Said("https://me:pa%2Fword@host/simple")
    assert said.add("got pa/word and pa%2Fword of me") == "got *** and *** of me"
    assert "word" not in said.tail
