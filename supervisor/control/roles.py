"""The rules of the settings -> a role. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from supervisor.wire.control import Role

Lookup = Callable[[str], int | None]
"""The number of a name; None: there is no such name."""
EVERYBODY: Final = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Who has which role; who is in none of them has none."""

    users: Mapping[int, Role]
    groups: Mapping[int, Role]
    everybody: Role | None
    given: Mapping[Role, tuple[str, ...]]
    """As it stands in the settings."""
    warnings: tuple[str, ...]

    def role(self, uid: int, groups: AbstractSet[int]) -> Role | None:
        """The highest that any rule gives."""
        found = [self.users.get(uid), self.everybody, *(self.groups[gid] for gid in self.groups.keys() & groups)]
        return max((role for role in found if role is not None), default=None)

    def granted_to(self, role: Role) -> list[str]:
        """The entries that give this role, or one that includes it."""
        return [entry for given, entries in self.given.items() if given >= role for entry in entries]


def setting_of(role: Role) -> str:
    """The name of the setting that gives it."""
    return f"{role.name.lower()}s"


def make_rules(given: Mapping[Role, Sequence[str]], user: Lookup, group: Lookup) -> Rules:
    """From entries such as "alice", "1001", "@staff", "@1001" and "*", well-formed.

    A name that does not exist gives nobody anything: it may be made later, and is looked up at the next reload.
    """
    users: dict[int, Role] = {}
    groups: dict[int, Role] = {}
    everybody: Role | None = None
    warnings = []
    for role, entry in ((each, entry) for each in sorted(given) for entry in given[each]):
        name, is_group = entry.removeprefix("@"), entry.startswith("@")
        if entry == EVERYBODY:
            everybody = role  # they come in rising order
            continue
        number = int(name) if name.isdecimal() else (group if is_group else user)(name)
        if number is None:
            what = "group" if is_group else "user"
            warnings.append(f"{setting_of(role)}: there is no {what} {name!r} here: {entry!r} gives nobody a role")
        else:
            (groups if is_group else users)[number] = role
    if everybody is Role.ADMIN:
        warnings.append(
            'admins: "*" lets whoever can connect install plugins, and so run code as the user that runs plugind'
        )
    return Rules(
        users=users,
        groups=groups,
        everybody=everybody,
        given={role: tuple(entries) for role, entries in sorted(given.items())},
        warnings=tuple(warnings),
    )


NO_RULES: Final = make_rules({}, lambda _: None, lambda _: None)
