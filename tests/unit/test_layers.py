"""The folders are the architecture: imports point down only, and the protocol does no I/O."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "wsgi_proxy"
MODULES = sorted(PACKAGE.rglob("*.py"))

# layer: what it may import, besides itself
ALLOWED = {
    "errors": set(),
    "settings": {"errors"},
    "protocol": {"errors"},
    "observe": {"protocol", "settings", "errors"},
    "upstream": {"observe", "protocol", "settings", "errors"},
    "gateway": {"observe", "upstream", "protocol", "settings", "errors"},
    "deployment": {"settings", "errors"},
    "demo": {"upstream", "protocol", "settings", "errors"},
    "doctor": {"demo", "upstream", "protocol", "settings", "errors"},
    "replay": {"demo", "observe", "protocol", "settings", "errors"},
    "cli": {"doctor", "replay", "demo", "deployment", "gateway", "observe", "settings", "errors"},
    "__main__": {"cli"},
    "__init__": set(),
}
IO = {
    "asyncio",
    "flask",
    "gevent",
    "geventwebsocket",
    "http",
    "logging",
    "os",
    "pathlib",
    "requests",
    "select",
    "selectors",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
    "urllib",
    "urllib3",
    "websockets",
}
PURE_PARTS = {"http.HTTPStatus"}


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    """Yield the full dotted names that a module imports, wherever in it."""
    here = ("wsgi_proxy", *path.relative_to(PACKAGE).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*here[: -node.level]] if node.level else []
            base += node.module.split(".") if node.module else []
            yield from (".".join((*base, alias.name)) for alias in node.names)


def layers_imported_by(path: Path) -> set[str]:
    names = (name.split(".") for name in imports_of(path))
    found = {name[1] for name in names if name[0] == "wsgi_proxy" and len(name) > 1}
    # `from wsgi_proxy import __version__` needs no layer.
    return {layer for layer in found if not layer.startswith("__")}


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    """A layer knows what is below it and nothing of what is above."""
    layer = layer_of(path)
    assert layer in ALLOWED, "a new layer needs a place in the architecture"
    assert set() == layers_imported_by(path) - ALLOWED[layer] - {layer}


@pytest.mark.parametrize("path", sorted((PACKAGE / "protocol").glob("*.py")), ids=name_of)
def test_the_protocol_does_no_io(path: Path) -> None:
    """Clocks, ids and bytes are handed in."""
    found = set(imports_of(path)) - PURE_PARTS
    assert set() == {name for name in found if name.split(".")[0] in IO}


def test_the_doctor_borrows_one_thing_from_the_demo() -> None:
    """What clients are told is the same there; everything else is to try the proxy with."""
    names = {name for path in (PACKAGE / "doctor").glob("*.py") for name in imports_of(path)}
    borrowed = {name.split(".")[2] for name in names if name.startswith("wsgi_proxy.demo")}
    assert {"configurations"} == borrowed


def test_the_walk_finds_imports() -> None:
    """Of both forms, relative and absolute, at the top of a module and inside functions."""
    assert {"demo", "gateway", "settings", "errors"} == layers_imported_by(PACKAGE / "cli" / "serving.py") - {"cli"}
    assert "wsgi_proxy.errors.ProxyError" in set(imports_of(PACKAGE / "protocol" / "frames.py"))
    assert "wsgi_proxy.protocol.wire.split_array" in set(imports_of(PACKAGE / "protocol" / "turn.py"))
    assert {"errors"} == layers_imported_by(PACKAGE / "protocol" / "session.py") - {"protocol"}


def test_importing_the_protocol_loads_no_server() -> None:
    """Not even by way of something else."""
    modules = [f"wsgi_proxy.protocol.{path.stem}" for path in (PACKAGE / "protocol").glob("[!_]*.py")]
    code = "\n".join(
        (
            "import importlib, sys",
            f"for name in {modules!r}: importlib.import_module(name)",
            "foreign = {'gevent', 'geventwebsocket', 'flask', 'requests', 'urllib3', 'gunicorn', 'websockets'}",
            "print(sorted(foreign & set(sys.modules)))",
        )
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert ("", "[]\n") == (done.stderr, done.stdout)


def test_no_module_is_too_long() -> None:
    """400 lines are the end."""
    assert {} == {
        name_of(path): lines for path in MODULES if (lines := len(path.read_text("utf-8").splitlines())) > 400
    }
