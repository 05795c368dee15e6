"""What is wrong with the text of a setting: a path, an address, a user or group, a time zone. None: nothing is."""

from __future__ import annotations

import os
import re
from ipaddress import ip_address
from typing import Final
from zoneinfo import ZoneInfo

# sockaddr_un.sun_path is 108 bytes, the last one a NUL.
_MAX_SOCKET_BYTES: Final = 107


def path_problem(text: str) -> str | None:
    if "\0" in text:
        return "must not contain NUL"
    return None if text.startswith("/") else "must be an absolute path"


def socket_problem(text: str) -> str | None:
    if problem := path_problem(text):
        return problem
    size = len(os.fsencode(text))
    return (
        None
        if size <= _MAX_SOCKET_BYTES
        else f"is {size} bytes long; a socket's path has at most 107: choose a shorter"
    )


def index_problem(url: str) -> str | None:
    if url.startswith(("https://", "http://", "file:///")) and not re.search(r"[\x00-\x20\x7f]", url):
        return None
    return "must be the address of a package index: https://…, http://… or file:///…"


def member_problem(text: str) -> str | None:
    name = text.removeprefix("@")
    if text == "*" or re.fullmatch(r"[0-9]{1,10}|[A-Za-z_][A-Za-z0-9_.-]*[$]?", name):
        return None
    return 'must be a user ("alice", "1001"), a group ("@staff", "@1001") or "*" for everybody who can connect'


def group_problem(text: str) -> str | None:
    if re.fullmatch(r"[0-9]{1,10}|[A-Za-z_][A-Za-z0-9_.-]*[$]?", text):
        return None
    return 'must be the name or number of a group, without "@"'


def scrape_problem(text: str) -> str | None:
    """A name such as `localhost` could come to mean another address: only what is loopback for good will do."""
    if text.startswith("/"):
        return socket_problem(text)
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65_536:
        return 'must be a loopback address with its port, such as "127.0.0.1:9464", or the absolute path of a socket'
    try:
        address = ip_address(host.removeprefix("[").removesuffix("]") if host.startswith("[") else host)
    except ValueError:
        return f"{host!r} is no IP address: 127.0.0.1 or [::1] is meant"
    return None if address.is_loopback else f"{host} is not loopback: whoever reaches it could read all of it"


def zone_problem(name: str) -> str | None:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; leaves the database ("../x"); a directory ("America")
        return "is no IANA time zone, such as 'UTC' or 'Europe/Berlin'"
    return None
