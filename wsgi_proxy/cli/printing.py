"""Commands that print files for the programs around the proxy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from ..settings import config_file, load
from .group import Command, Commands, config_option


@click.group("print", cls=Commands)
def print_files() -> None:
    """
    Print files for systemd, nginx, HAProxy, logrotate and Grafana, made from the settings.

    \b
    wsgi-proxy print systemd --config /etc/wsgi-proxy/wsgi-proxy.toml > /etc/systemd/system/wsgi-proxy.service
    wsgi-proxy print nginx --server-name proxy.example > /etc/nginx/conf.d/wsgi-proxy.conf
    wsgi-proxy print haproxy --backend 10.0.0.7:8765 --backend 10.0.0.8:8765 >> /etc/haproxy/haproxy.cfg
    wsgi-proxy print logrotate > /etc/logrotate.d/wsgi-proxy
    wsgi-proxy print grafana > wsgi-proxy.json

    Each begins with where to put it, and how to enable it. Print them again when the settings have changed.
    """


def balancer_options(command: Command) -> Command:
    """Add what nginx and HAProxy have to be told."""
    text = "Address of a proxy; several times for several machines. Default: that of the setting bind."
    command = click.option("--backend", "backends", multiple=True, metavar="HOST:PORT", help=text)(command)
    text = "Name that clients use."
    return click.option("--server-name", default="proxy.example", show_default=True, metavar="NAME", help=text)(command)


@print_files.command("systemd")
@config_option
@click.option("--user", default="wsgi-proxy", show_default=True, metavar="NAME", help="User that the service runs as.")
def print_systemd(config: Path | None, user: str) -> None:
    """
    Print a hardened unit that runs wsgi-proxy serve.

    It names the settings file by its full path; without one, /etc/wsgi-proxy/wsgi-proxy.toml, which is then to be made.
    """
    from ..deployment.systemd import CONFIG_FILE, unit

    file = config_file(config, os.environ)
    path = file.absolute() if file else CONFIG_FILE
    click.echo(unit(load(config, os.environ, {}), config=path, user=user), nl=False)


@print_files.command("nginx")
@config_option
@balancer_options
@click.option("--certificate", metavar="FILE", help="Certificate in PEM form; default the one of certbot for NAME.")
@click.option("--key", metavar="FILE", help="Its key; default the one of certbot for NAME.")
def print_nginx(config: Path | None, **options: Any) -> None:
    """
    Print a site that takes TLS from clients and balances proxies.

    \b
    wsgi-proxy print nginx --server-name proxy.example > /etc/nginx/conf.d/wsgi-proxy.conf
    wsgi-proxy print nginx --backend 10.0.0.7:8765 --backend 10.0.0.8:8765

    Sizes and timeouts are those of the settings, so that nginx cuts nothing that the proxy would wait for.
    """
    from ..deployment.nginx import site

    click.echo(site(load(config, os.environ, {}), **options), nl=False)


@print_files.command("haproxy")
@config_option
@balancer_options
@click.option("--certificate", metavar="FILE", help="Certificate and key in one file; default /etc/haproxy/NAME.pem.")
def print_haproxy(config: Path | None, **options: Any) -> None:
    """Print a frontend that takes TLS from clients, and a backend of proxies."""
    from ..deployment.haproxy import sections

    click.echo(sections(load(config, os.environ, {}), **options), nl=False)


@print_files.command("logrotate")
@click.option("--log", default="/var/log/wsgi-proxy/error.log", show_default=True, metavar="FILE", help="The log.")
@click.option(
    "--pid", default="/run/wsgi-proxy/pid", show_default=True, metavar="FILE", help="The master's process id."
)
def print_logrotate(log: str, pid: str) -> None:
    """Print a rotation for gunicorn's log, if that is a file; wsgi-proxy serve needs none under systemd."""
    from ..deployment.logrotate import rotation

    click.echo(rotation(log=log, pid=pid), nl=False)


@print_files.command("grafana")
def print_grafana() -> None:
    """
    Print a dashboard of the metrics that the proxy tells at /metrics.

    \b
    wsgi-proxy print grafana > wsgi-proxy.json

    Import the file in Grafana under Dashboards, New, Import, or put it into a folder of its provisioning. Prometheus
    has to scrape /metrics, with the admin key as a bearer token if it runs on another machine:

    \b
    scrape_configs:
      - job_name: wsgi-proxy
        authorization: { credentials_file: /etc/prometheus/wsgi-proxy.key }
        static_configs: [{ targets: ["10.0.0.7:8765"] }]
    """
    from ..deployment.grafana import dashboard

    click.echo(dashboard(), nl=False)
