"""The header fields of a request, as gevent's server asks for them."""

from __future__ import annotations

from collections.abc import Iterable

# WSGI has names of their own for these.
NAMED_OTHERWISE = frozenset(("CONTENT_TYPE", "CONTENT_LENGTH"))


class Fields:
    """
    Header fields.

    What decides where a request ends is looked at without blanks and tabs around it. The server, and the application,
    get values without any white space around them, as ever from gevent.

    Args:
        fields: Names and values, in their order, as latin-1 text.

    Attributes:
        first: The first value of each, by its name in lower case, without blanks and tabs around it (RFC 9112).
        repeated: The names, in lower case, of all that are not the first of theirs.
        status: What is wrong with them: nothing.
    """

    status = ""

    def __init__(self, fields: Iterable[tuple[str, str]]) -> None:
        self.first: dict[str, str] = {}
        self.repeated: list[str] = []
        self._fields: list[tuple[str, str]] = []
        for name, text in fields:
            known_as, value = name.lower(), text.strip(" \t")
            if known_as in self.first:
                self.repeated.append(known_as)
            else:
                self.first[known_as] = value
            self._fields.append((name, value))

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the value of the first field with a name, whatever its letters' case."""
        value = self.first.get(name.lower(), default)
        return value and value.strip()

    getheader = get

    @property
    def typeheader(self) -> str | None:
        """The type of the body."""
        return self.get("content-type")

    def items(self) -> list[tuple[str, str]]:
        """Return all names and values."""
        return self._fields

    def variables(self) -> list[tuple[str, str]]:
        """Return what WSGI calls them, and their values; names with `_` could be taken for others, and are left out."""
        found = []
        for name, value in self._fields:
            if "_" not in name:
                variable = name.replace("-", "_").upper()
                if variable not in NAMED_OTHERWISE:
                    found.append((f"HTTP_{variable}", value.strip()))
        return found

    def __delitem__(self, name: str) -> None:
        del self.first[name.lower()]
        self._fields = [field for field in self._fields if field[0].lower() != name.lower()]
