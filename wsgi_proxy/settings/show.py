"""From settings to text: what `wsgi-proxy settings` prints, and the tables of README.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .records import Settings
from .table import KEY_SETTINGS, SETTINGS, UPSTREAM_SETTINGS, Setting


def described(settings: Settings) -> list[tuple[str, str, str]]:
    """Return name, value and source of every setting, of each upstream and each client key, as text to be shown."""
    source = settings.sources.get
    rows = [
        (setting.name, setting.show(getattr(settings, setting.name)), source(setting.name, "default"))
        for setting in SETTINGS
    ]
    if not settings.upstream:  # which would be the only one, and shown already
        rows += _tables("upstreams", settings.upstreams, UPSTREAM_SETTINGS, source("upstreams", "default"))
    return rows + _tables("keys", settings.keys, KEY_SETTINGS, source("keys", "default"))


def _tables(name: str, records: Iterable[Any], settings: Iterable[Setting], source: str) -> list[tuple[str, str, str]]:
    return [
        (f"{name}[{index}].{setting.name}", setting.show(getattr(record, setting.name)), source)
        for index, record in enumerate(records)
        for setting in settings
        if hasattr(record, setting.name)
    ]


def settings_table_markdown() -> str:
    """Return the tables of README.md."""
    parts = [_markdown(SETTINGS), ["Keys of an `[[upstreams]]` table:", "", *_markdown(UPSTREAM_SETTINGS)]]
    parts.append(["Keys of a `[[keys]]` table:", "", *_markdown(KEY_SETTINGS)])
    return "\n\n".join("\n".join(part) for part in parts)


def _markdown(settings: Iterable[Setting]) -> list[str]:
    rows = ["| setting | default | unit | accepted | meaning |", "| --- | --- | --- | --- | --- |"]
    for setting in settings:
        default = f"`{setting.default}`" if setting.default else ""
        accepted = setting.kind.accepted.replace("|", "\\|")
        rows.append(f"| `{setting.name}` | {default} | {setting.unit} | {accepted} | {setting.help} |")
    return rows
