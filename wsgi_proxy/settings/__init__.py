"""
The settings: tables, from which come the keys of the TOML file, the names in the environment, the options of
`wsgi-proxy serve`, the tables in README.md and what `wsgi-proxy settings` prints.

A value is taken from the default, the file, the environment or the command line; the later beats the earlier.

`values`, `addresses`, `models`
    The kinds of values: how each is read, what is accepted, how it is shown.
`table`
    The settings themselves, a row each.
`records`
    What they become: `Settings`, with `UpstreamSettings` and `KeySettings` in it.
`keysfile`
    The file that holds the digests of client keys.
`load`
    From file, environment and command line to records.
`show`
    From records and tables to text.
"""

from . import keysfile
from .addresses import base_url_meant
from .load import CONFIG_VARIABLE, config_file, keys_file_setting, load, parse_websockets
from .models import Models
from .records import NO_UPSTREAM, KeySettings, Settings, UpstreamSettings
from .show import described, settings_table_markdown
from .table import BY_NAME, KEY_SETTINGS, SETTINGS, UPSTREAM_SETTINGS, Given, Setting

__all__ = [
    "BY_NAME",
    "CONFIG_VARIABLE",
    "KEY_SETTINGS",
    "NO_UPSTREAM",
    "SETTINGS",
    "UPSTREAM_SETTINGS",
    "Given",
    "KeySettings",
    "Models",
    "Setting",
    "Settings",
    "UpstreamSettings",
    "base_url_meant",
    "config_file",
    "described",
    "keys_file_setting",
    "keysfile",
    "load",
    "parse_websockets",
    "settings_table_markdown",
]
