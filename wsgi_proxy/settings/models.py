"""Which models an upstream serves or a key may use: patterns, and aliases."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from .values import Hint, Kind, read_text

# A name may hold nearly everything; these would mean that a regular expression was meant.
_PATTERN = re.compile(r"[^\s\[\](){}|\\^$,=]+")


@dataclass(frozen=True)
class Models:
    """
    A set of model names.

    Args:
        patterns: Names in which `*` stands for any text and `?` for any character.
        aliases: A name that clients use, and the model that it stands for.
    """

    patterns: tuple[str, ...] = ("*",)
    aliases: tuple[tuple[str, str], ...] = ()

    def target(self, model: str) -> str | None:
        """Return the model that a name stands for, which mostly is itself; None if the name is not among these."""
        found = self._by_alias.get(model)
        if found or self._all:
            return found or model
        return model if any(pattern.match(model) for pattern in self._patterns) else None

    def __contains__(self, model: str) -> bool:
        return self.target(model) is not None

    @property
    def names(self) -> list[str]:
        """The names that are known without asking anybody: aliases, and patterns that match one name only."""
        return [alias for alias, _ in self.aliases] + [name for name in self.patterns if not {"*", "?"} & set(name)]

    def __str__(self) -> str:
        return ", ".join([*self.patterns, *(f"{alias}={model}" for alias, model in self.aliases)])

    @cached_property
    def _by_alias(self) -> dict[str, str]:
        return dict(self.aliases)

    @cached_property
    def _all(self) -> bool:
        return "*" in self.patterns

    @cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        # A `.*` for each `*` would go back over a long name again and again; this takes every text as early as it can.
        # A "[" would be special too; no pattern has one.
        return [re.compile(fnmatch.translate(name)) for name in self.patterns]


EVERY_MODEL = Models()


def read_models(value: object) -> Models:
    """Return models from text, a list of patterns and tables of aliases, or one such table."""
    patterns: list[str] = []
    aliases: dict[str, str] = {}
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    for part in parts:
        if isinstance(part, dict):
            _add(aliases, part)
        elif isinstance(part, str) and "=" in part:
            alias, _, model = part.partition("=")
            _add(aliases, {alias: model})
        else:
            patterns.append(_pattern(part))
    if not patterns and not aliases:
        raise ValueError
    return Models(tuple(patterns), tuple(aliases.items()))


def read_patterns(value: object) -> Models:
    """Return models as `read_models` does, without aliases."""
    models = read_models(value)
    if models.aliases:
        raise Hint("an alias belongs to the models of an upstream")
    return models


def _add(aliases: dict[str, str], more: Mapping[str, object]) -> None:
    for alias, model in more.items():
        name = _name(alias)
        if name in aliases:
            raise Hint(f"the alias {name} is there twice")
        aliases[name] = _name(model)


def _pattern(value: object) -> str:
    text = read_text(value)
    if ".*" in text:
        raise Hint(f"it is no regular expression, did you mean {text.replace('.*', '*')}?")
    if not _PATTERN.fullmatch(text):
        raise ValueError
    return text


def _name(value: object) -> str:
    text = _pattern(value)
    if "*" in text or "?" in text:
        raise Hint("an alias stands for one model, and has no * or ? in it")
    return text


MODELS = Kind(
    read_models,
    'patterns such as "qwen3-*", and tables of aliases such as { "gpt-5" = "qwen3-32b" }, in a list',
    "MODELS",
)
PATTERNS = Kind(read_patterns, 'patterns such as "qwen3-*", in a list', "MODELS")
