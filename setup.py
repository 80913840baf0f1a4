"""Metadata, dependencies and entry points; the version is the one in wsgi_proxy/__init__.py."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "wsgi_proxy" / "__init__.py").read_text("utf-8"), re.MULTILINE)
assert VERSION is not None

setup(
    name="wsgi-proxy",
    version=VERSION[1],
    description="Lets WebSocket clients of the OpenAI Responses API use servers that speak it only over HTTP",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    author="wsgi-proxy contributors",
    license="MIT",
    license_files=["LICENSE"],
    keywords=["openai", "responses", "websocket", "proxy", "codex", "wsgi", "gunicorn", "gevent"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Web Environment",
        "Framework :: Flask",
        "Intended Audience :: Developers",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Internet :: Proxy Servers",
        "Topic :: Internet :: WWW/HTTP :: WSGI :: Server",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=["wsgi_proxy", "wsgi_proxy.*"]),
    package_data={"wsgi_proxy": ["py.typed"], "wsgi_proxy.gateway.status": ["page/*"]},
    zip_safe=False,
    install_requires=[
        "click>=8.1.7",
        "flask>=3.0",
        "gevent>=26.5",  # older ones end with a traceback under the newest greenlet
        "gevent-websocket>=0.10.1",
        "gunicorn>=27.0",
        "jinja2>=3.1",
        "markupsafe>=3.0",
        "msgspec>=0.19",
        "packaging>=24.0",  # gunicorn imports it without requiring it
        "prometheus-client>=0.22",
        "requests>=2.32",
        "ujson>=5.10",
        "urllib3>=2.2",
        "websockets>=15.0",
    ],
    extras_require={
        "dev": [
            "coverage>=7.6",
            "hypothesis>=6.120",
            "jsonschema>=4.23",
            "mypy>=1.15",
            "openai>=3.54",
            "openai-agents>=0.24",
            "playwright>=1.60",
            "promql-parser>=0.5",  # checks the queries of the dashboard
            "pytest>=8.3",
            "pytest-xdist>=3.6",
            "ruff>=0.17",
            "trustme>=1.2",
            "types-gevent",
            "types-requests",
        ],
        "fuzz": ["atheris>=3.0"],  # apart, because there are not wheels of it for every platform
    },
    entry_points={
        "console_scripts": ["wsgi-proxy = wsgi_proxy.cli:main"],
        "gunicorn.workers": ["gevent = wsgi_proxy.gateway.worker:Worker"],
    },
)
