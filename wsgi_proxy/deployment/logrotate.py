"""A file for logrotate, for a log that gunicorn writes to a file."""

from __future__ import annotations

from .place import commented, name_for_file

FILE = """\
{notes}

{log} {{
    weekly
    rotate 8
    compress
    delaycompress
    missingok
    notifempty
    # The new file has mode and owner of the old one.
    create
    sharedscripts
    postrotate
        # The master opens its log anew, and has its workers do it; nobody is disconnected.
        ! grep -qsxE '[1-9][0-9]*' {pid} || kill -USR1 "$(cat {pid})"
    endscript
}}
"""


def rotation(*, log: str, pid: str) -> str:
    """
    Return a rotation.

    Args:
        log: The file that gunicorn writes, its setting `errorlog`.
        pid: The file with the process id of the master, its setting `pidfile`.

    Raises:
        SettingsError: A path cannot stand in the file.
    """
    name_for_file(log, "--log")
    name_for_file(pid, "--pid")
    notes = [
        "/etc/logrotate.d/wsgi-proxy, printed by `wsgi-proxy print logrotate`. To try it:",
        "",
        "  logrotate --debug /etc/logrotate.d/wsgi-proxy",
        "",
        "Under systemd `wsgi-proxy serve` writes to the journal, which needs none of this. This is for gunicorn with",
        "these lines in gunicorn.conf.py; the folder must not be writable by a group:",
        "",
        f'  errorlog = "{log}"',
        f'  pidfile = "{pid}"',
    ]
    return FILE.format(notes=commented(notes), log=log, pid=pid)
