"""What a source names is fetched: from directories of wheels here, from an index where there is one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from supervisor.core.errors import FailedPrecondition, InvalidParams, ResourceExhausted, SupervisorError
from supervisor.lifecycle.copying import PackageRefused
from supervisor.lifecycle.fetching import fetch
from supervisor.lifecycle.sources import read_source
from supervisor.lifecycle.uv_command import UvIndexes, read_pip_configuration, uv_install
from supervisor.lifecycle.wheels import manifest_of_wheel
from tests.lifecycle.environments import Watched, a_source, tools_without_index
from tests.wheels import make_sdist, make_wheel, plugin_wheel, sha256_of, write_project

OTHER_HASH = "sha256:" + "0" * 64


@pytest.fixture
def links(tmp_path: Path) -> Path:
    path = tmp_path / "links"
    path.mkdir()
    return path


@pytest.fixture
def into(tmp_path: Path) -> Path:
    path = tmp_path / "staging" / "into"
    path.mkdir(parents=True)
    return path


def left(into: Path) -> list[str]:
    return sorted(os.listdir(into.parent)) + sorted(os.listdir(into))


async def test_the_newest_that_fits_without_its_dependencies(tmp_path: Path, links: Path, into: Path) -> None:
    for version in ("1.0", "1.5", "2.0"):
        plugin_wheel(links, "acme", version, requires=["no-such-thing"])
    watched = Watched()
    source = read_source("acme>=1,<2", find_links=[str(links)])
    with trio.fail_after(30):
        found = await fetch(source, into, tools_without_index(tmp_path), watched.operation())
    assert found == into / "acme-1.5-py3-none-any.whl"
    assert left(into) == ["into", found.name]
    assert any("acme-1.5" in line for line in watched.lines)
    assert b'version = "1.5"' in manifest_of_wheel(found)


async def test_an_sdist_is_passed_over_for_a_wheel(tmp_path: Path, links: Path, into: Path) -> None:
    make_sdist(links, write_project(tmp_path / "source", "acme", version="2.0"), "acme", "2.0")
    make_wheel(links, "acme", "1.0")
    source = read_source("acme", find_links=[links.as_uri()])
    with trio.fail_after(30):
        found = await fetch(source, into, tools_without_index(tmp_path), Watched().operation())
    assert left(into) == ["into", found.name] == ["into", "acme-1.0-py3-none-any.whl"]


async def test_only_sdists_that_fit_are_named(tmp_path: Path, links: Path, into: Path) -> None:
    project, tools = write_project(tmp_path / "source", "acme"), tools_without_index(tmp_path)
    for version in ("1.0", "1.10", "1.9", "2.0"):
        make_sdist(links, project, "acme", version)
    watched = Watched()
    with trio.fail_after(60):
        with pytest.raises(FailedPrecondition, match=r"only sdists \(acme-1\.10\.tar\.gz\)") as caught:
            await fetch(read_source("acme<2", find_links=[str(links)]), into, tools, watched.operation())
        assert caught.value.details["sdists"] == ["acme-1.0.tar.gz", "acme-1.9.tar.gz", "acme-1.10.tar.gz"]
        assert not any("No sources permitted" in line for line in watched.lines)
        with pytest.raises(InvalidParams, match="No matching distribution found for acme>=3"):
            await fetch(read_source("acme>=3", find_links=[str(links)]), into, tools, watched.operation())
    assert left(into) == ["into"]


@pytest.mark.parametrize("requirement", ["acme==1.0", "acme>=1"])
async def test_hashes(requirement: str, tmp_path: Path, links: Path, into: Path) -> None:
    wheel, tools = make_wheel(links, "acme"), tools_without_index(tmp_path)
    good = read_source(requirement, find_links=[str(links)], hashes=[OTHER_HASH, sha256_of(wheel)])
    bad = read_source(requirement, find_links=[str(links)], hashes=[OTHER_HASH])
    with trio.fail_after(30):
        with pytest.raises(InvalidParams, match="not what you asked for") as caught:
            await fetch(bad, into, tools, Watched().operation())
        assert sha256_of(wheel).removeprefix("sha256:") in caught.value.message
        assert left(into) == ["into"]
        assert (await fetch(good, into, tools, Watched().operation())).name == wheel.name


async def test_of_two_files_the_one_with_the_hash(tmp_path: Path, links: Path, into: Path) -> None:
    wheel, other = make_wheel(links, "acme"), make_wheel(links, "acme", tag="py2.py3-none-any")
    sdist = make_sdist(links, write_project(tmp_path / "source", "acme"), "acme")
    page = tmp_path / "page.html"
    anchors = [
        f'<a href="{file.as_uri()}#{sha256_of(file).replace(":", "=")}">{file.name}</a>'
        for file in (wheel, other, sdist)
    ]
    page.write_text(f"<!DOCTYPE html><html><body>{' '.join(anchors)}</body></html>")
    for wanted in (wheel, other):
        source = read_source("acme==1.0", find_links=[str(page)], hashes=[sha256_of(wanted)])
        with trio.fail_after(30):
            found = await fetch(source, into, tools_without_index(tmp_path), Watched().operation())
        assert found.name == wanted.name
    # The sdist is not taken, and what is wrong is the hash of what would be.
    source = read_source("acme==1.0", find_links=[str(page)], hashes=[sha256_of(sdist)])
    with trio.fail_after(30), pytest.raises(InvalidParams, match="not what you asked for"):
        await fetch(source, into, tools_without_index(tmp_path), Watched().operation())


async def test_a_file_is_copied_and_compared(tmp_path: Path, links: Path, into: Path) -> None:
    wheel, tools = make_wheel(links, "acme"), tools_without_index(tmp_path)
    with trio.fail_after(30):
        with pytest.raises(InvalidParams, match="nothing was installed"):
            await fetch(read_source(str(wheel), hashes=[OTHER_HASH]), into, tools, Watched().operation())
        assert left(into) == ["into"]
        found = await fetch(read_source(str(wheel), hashes=[sha256_of(wheel)]), into, tools, Watched().operation())
        assert found.read_bytes() == wheel.read_bytes()
        found.unlink()
        wheel.chmod(0o666)
        with pytest.raises(PackageRefused, match="may be written by others"):
            await fetch(read_source(str(wheel)), into, tools, Watched().operation())
    assert left(into) == ["into"]


def nothing(links: Path) -> None:
    """There is no such package."""


def for_another_python(links: Path) -> None:
    make_wheel(links, "acme", requires_python=">=4")


def for_another_platform(links: Path) -> None:
    make_wheel(links, "acme", tag="cp311-cp311-win_amd64")


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (nothing, InvalidParams, "check names and versions"),
        (for_another_python, (FailedPrecondition, InvalidParams), ">=4"),
        (for_another_platform, InvalidParams, "No matching distribution found for acme"),
    ],
)
async def test_what_cannot_be_fetched(
    make: Callable[[Path], None], kind: type[SupervisorError], words: str, tmp_path: Path, links: Path, into: Path
) -> None:
    make(links)
    source = read_source("acme", find_links=[str(links)])
    with trio.fail_after(30), pytest.raises(kind) as caught:
        await fetch(source, into, tools_without_index(tmp_path), Watched().operation())
    assert words in str(caught.value)
    assert left(into) == ["into"]


async def test_an_option_in_a_requirement_is_none_to_pip(tmp_path: Path, links: Path, into: Path) -> None:
    make_wheel(links, "acme")
    # Past `read_source`, which refuses it: nothing that pip takes for an option may come through here either.
    source = a_source(None, requirement="acme --index-url=file:///evil", find_links=(str(links),))
    with trio.fail_after(30), pytest.raises(Exception, match="--index-url"):
        await fetch(source, into, tools_without_index(tmp_path), Watched().operation())
    assert left(into) == ["into"]


@pytest.mark.parametrize("place", ["plugin.toml", "acme/plugin.toml"])
def test_the_manifest_of_a_wheel(place: str, tmp_path: Path) -> None:
    deeper = {"acme/templates/plugin.toml": "deeper", "acme-1.0.data/plugin.toml": "data"}
    wheel = make_wheel(tmp_path, "acme", files={**deeper, place: "the one"})
    assert manifest_of_wheel(wheel) == b"the one"


def test_wheels_without_a_clear_manifest(tmp_path: Path) -> None:
    with pytest.raises(InvalidParams, match=r"acme-1\.0-py3-none-any\.whl is no plugin: .* package data"):
        manifest_of_wheel(make_wheel(tmp_path, "acme"))
    with pytest.raises(InvalidParams, match=r"there is acme/deep/plugin\.toml, which is too deep"):
        manifest_of_wheel(make_wheel(tmp_path, "acme", files={"acme/deep/plugin.toml": ""}))
    two = make_wheel(tmp_path, "acme", files={"b/plugin.toml": "", "a/plugin.toml": ""})
    with pytest.raises(InvalidParams, match=r"more than one plugin\.toml: a/plugin\.toml, b/plugin\.toml"):
        manifest_of_wheel(two)
    large = make_wheel(tmp_path, "acme", files={"plugin.toml": " " * (1024 * 1024 + 1)})
    with pytest.raises((PackageRefused, ResourceExhausted), match="1048576"):
        manifest_of_wheel(large)


def test_uv_looks_where_pip_would() -> None:
    listing = (
        "global.index-url='https://me:pw@one.example/simple'\n"
        "global.extra-index-url='\\nhttps://two.example/simple\\nhttps://three.example/simple'\n"
        "global.timeout='60'\n"
        "install.find-links='/srv/wheels https://four.example/'\n"
        "download.pre='true'\n"
        ":env:.index-url='https://env.example/simple'\n"
        ":env:.cert='/etc/ca.pem'\n"
    )
    found = read_pip_configuration(listing)
    assert found == UvIndexes(
        environ={
            "UV_DEFAULT_INDEX": "https://env.example/simple",
            "UV_INDEX": "https://two.example/simple https://three.example/simple",
            "SSL_CERT_FILE": "/etc/ca.pem",
        },
        flags=("--find-links=/srv/wheels", "--find-links=https://four.example/"),
    )
    argv = uv_install("/usr/bin/uv", Path("/v/bin/python"), found)
    assert argv[:3] == ["/usr/bin/uv", "pip", "install"]
    assert argv[-4:] == [*found.flags, "--python", "/v/bin/python"]
    assert not any("env.example" in word for word in argv)
    assert read_pip_configuration("") == UvIndexes(environ={})
    assert read_pip_configuration(":env:.no-index='1'\n") == UvIndexes(environ={}, flags=("--no-index",))
    assert read_pip_configuration("global.no-index='false'\n") == UvIndexes(environ={})


@pytest.mark.parametrize(
    "listing",
    [
        "global.proxy='http://proxy.example'\n",
        "install.constraint='/etc/constraints.txt'\n",
        "global.trusted-host='one.example'\n",
        "global.find-links='https://me:pw@one.example/'\n",
        "global.index-url=not quoted\n",
        "WARNING: something\n",
    ],
)
def test_where_uv_could_not_do_as_pip_would_it_is_not_used(listing: str) -> None:
    assert read_pip_configuration(listing) is None
