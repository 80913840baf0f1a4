"""
LiteLLM, to compare with: installed into an environment of its own, started with a configuration of one model.

It has no database, and its defaults. Only the model of the workload `turns` is known to it. That is said to be one of
vLLM, because LiteLLM speaks WebSocket itself with the models of OpenAI, and said to stream, because LiteLLM otherwise
asks for the whole answer.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
import venv
from importlib.metadata import distributions
from pathlib import Path

import pytest

from ..conftest import ROOT, Process, fetch, free_port
from .answers import Plan

FOLDER = ROOT / ".venv-litellm"
INSTALLED = FOLDER / "bin" / "litellm"
REQUIREMENT = "litellm[proxy]"
START_SECONDS = 120.0
POLL_SECONDS = 0.2


def install() -> None:
    """Install it unless it is there, and show on standard error what pip does; CalledProcessError if that fails."""
    if INSTALLED.exists():
        return
    print(f"installing {REQUIREMENT} into {FOLDER.name}, which takes some minutes", file=sys.stderr, flush=True)
    venv.create(FOLDER, with_pip=True)
    subprocess.run([FOLDER / "bin" / "python", "-m", "pip", "install", REQUIREMENT], check=True, stdout=sys.stderr)


def installed_version() -> str | None:
    """Return the version that is installed, if one is."""
    found = distributions(name="litellm", path=[str(folder) for folder in FOLDER.glob("lib/*/site-packages")])
    return next((distribution.version for distribution in found), None)


def configuration(upstream: str) -> dict[str, object]:
    """Return its configuration file for an upstream's base URL."""
    model = Plan().model
    parameters = {"model": f"hosted_vllm/{model}", "api_base": upstream, "api_key": "none"}
    free = {"input_cost_per_token": 0, "output_cost_per_token": 0}
    about = {"mode": "responses", "supports_native_streaming": True, **free}
    return {"model_list": [{"model_name": model, "model_info": about, "litellm_params": parameters}]}


class LiteLLMProcess(Process):
    """
    LiteLLM in front of an upstream; one worker.

    Attributes:
        ws_url: Where clients open their WebSocket.
        headers: That they have to send; LiteLLM accepts nobody without a key.
    """

    def __init__(self, folder: Path, upstream: str) -> None:
        port = free_port()
        key = f"sk-{secrets.token_hex(16)}"
        self.ws_url = f"ws://127.0.0.1:{port}/v1/responses"
        self.headers = {"Authorization": f"Bearer {key}"}
        self.args = ("litellm",)
        self._alive = f"http://127.0.0.1:{port}/health/liveliness"
        self._log = folder / "litellm.log"
        config = folder / "litellm.yaml"
        config.write_text(json.dumps(configuration(upstream)))  # which is YAML, too
        options = ("--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1")
        quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": key, "PYTHONUNBUFFERED": "1"}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(INSTALLED), *options, "--telemetry", "False"],
                cwd=folder,
                env={**os.environ, **quiet},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.pid = self.process.pid
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                pytest.fail(f"LiteLLM did not start:\n{self.log()[-3000:]}", pytrace=False)
            time.sleep(POLL_SECONDS)

    def _answers(self) -> bool:
        try:
            return fetch("GET", self._alive)[0] == 200
        except OSError:
            return False
