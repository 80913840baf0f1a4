"""What the documents say is what the code does."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from wsgi_proxy import cli
from wsgi_proxy.observe.metrics import metrics_table_markdown
from wsgi_proxy.settings import SETTINGS, settings_table_markdown

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / ".github").glob("*.md"))]
VARIABLES = {setting.variable for setting in SETTINGS} | {"WSGI_PROXY_CONFIG"}


def code_blocks(document: Path, language: str = "") -> Iterator[str]:
    """Yield the code blocks of a document, those of one language or all."""
    for found in re.finditer(r"^( *)```(\w*)\n(.*?)^\1```", document.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        if language in ("", found[2]):
            yield found[3]


def commands(document: Path) -> Iterator[list[str]]:
    """Yield the words of every `wsgi-proxy` command in a document, without what follows in the shell."""
    text = "\n".join(code_blocks(document)).replace("\\\n", " ")
    inline = re.findall(r"`(wsgi-proxy [^`\n]+)`", document.read_text("utf-8"))
    for line in [*text.splitlines(), *inline]:
        found = re.match(r"\s*(?:\$ )?(?:[A-Z_]+=\S+ )*(?:.*/bin/)?(?:python3? -m wsgi_proxy|wsgi-proxy) (.+)", line)
        if found:
            yield shlex.split(re.split(r" [&|>;]| #", found[1])[0])


def links(document: Path) -> set[str]:
    """Return the targets of links to other files of the project."""
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text("utf-8"))
    return {target for target in targets if "://" not in target and not target.startswith("mailto:")}


def test_settings_table() -> None:
    """The settings tables of README.md are those of `python -m wsgi_proxy settings --markdown`."""
    readme = (ROOT / "README.md").read_text("utf-8")
    found = re.search(r"<!-- settings:begin -->\n(.*?)\n<!-- settings:end -->", readme, re.DOTALL)

    assert found is not None
    assert settings_table_markdown() == found[1].strip()


def test_metrics_table() -> None:
    """The table of metrics of README.md is that of `python -m wsgi_proxy.observe.metrics --markdown`."""
    readme = (ROOT / "README.md").read_text("utf-8")
    found = re.search(r"<!-- metrics:begin -->\n(.*?)\n<!-- metrics:end -->", readme, re.DOTALL)

    assert found is not None
    assert metrics_table_markdown() == found[1].strip()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands(document: Path) -> None:
    """Every `wsgi-proxy` command in a document is a command, with options that it has."""
    for words in commands(document):
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        command: click.Command = cli.main
        for word in words:
            if not isinstance(command, click.Group) or word.startswith("-"):
                break
            assert word in command.commands, words
            command = command.commands[word]
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert set() == set(options) - known, words


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_variables(document: Path) -> None:
    """Every WSGI_PROXY_ variable in a document is read."""
    named = set(re.findall(r"\bWSGI_PROXY_[A-Z_]*[A-Z]\b", document.read_text("utf-8")))

    assert set() == named - VARIABLES


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links(document: Path) -> None:
    """Every link within the project leads to a file."""
    missing = {target for target in links(document) if not (document.parent / target).exists()}

    assert set() == missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_scripts(document: Path) -> None:
    """Every script that a document names exists and can be executed."""
    for script in re.findall(r"(?<![\w/.-])scripts/[a-z0-9]+", document.read_text("utf-8")):
        assert (ROOT / script).stat().st_mode & 0o111, script


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_toml(document: Path) -> None:
    """Every TOML block in a document is valid."""
    for block in code_blocks(document, "toml"):
        tomllib.loads(block)
