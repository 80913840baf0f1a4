"""The header fields of a request, as gevent's server asks for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

# WSGI has names of their own for these.
NAMED_OTHERWISE = frozenset(("CONTENT_TYPE", "CONTENT_LENGTH"))


class Fields:
    """
    Header fields.

    Args:
        fields: Names and values, in their order.

    Attributes:
        status: What is wrong with them: nothing.
    """

    status = ""

    def __init__(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        self._fields: list[tuple[str, str]] = []
        self._first: dict[str, str] = {}
        for raw_name, raw_value in fields:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1").strip()
            self._fields.append((name, value))
            self._first.setdefault(name.lower(), value)

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the value of the first field with a name, whatever its letters' case."""
        return self._first.get(name.lower(), default)

    getheader = get

    @property
    def typeheader(self) -> str | None:
        """The type of the body."""
        return self.get("content-type")

    def items(self) -> list[tuple[str, str]]:
        """Return all names and values."""
        return self._fields

    def variables(self) -> Iterator[tuple[str, str]]:
        """Yield what WSGI calls them, and their values; a name with `_` could be taken for another, and is left out."""
        for name, value in self._fields:
            if "_" not in name:
                variable = name.replace("-", "_").upper()
                if variable not in NAMED_OTHERWISE:
                    yield f"HTTP_{variable}", value

    def __delitem__(self, name: str) -> None:
        del self._first[name.lower()]
        self._fields = [field for field in self._fields if field[0].lower() != name.lower()]
