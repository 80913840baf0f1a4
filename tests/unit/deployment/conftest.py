"""No test finds a wsgi-proxy.toml that it did not write; a certificate for those that need one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trustme


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("WSGI_PROXY_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def combined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a certificate and its key."""
    path = tmp_path_factory.mktemp("certificate") / "both.pem"
    trustme.CA().issue_cert("proxy.example").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path
