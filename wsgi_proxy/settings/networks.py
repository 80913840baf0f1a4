"""Addresses of other servers: single ones, and networks of them."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Network, IPv6Network

from .values import Kind, read_list

Network = IPv4Network | IPv6Network

EVERY_NETWORK: tuple[Network, ...] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
LOOPBACK: tuple[Network, ...] = (IPv4Network("127.0.0.1"), IPv6Network("::1"))


def read_networks(value: object) -> tuple[Network, ...]:
    """Return networks from texts such as `10.0.0.0/8`, where an address is a network of one; `*` is all of them."""
    texts = read_list(value)
    return EVERY_NETWORK if texts == ("*",) else tuple(ipaddress.ip_network(text) for text in texts)


def show_networks(networks: tuple[Network, ...]) -> str:
    """Return networks as text that is read back to the same."""
    if networks == EVERY_NETWORK:
        return "*"
    return ", ".join(str(net.network_address if net.num_addresses == 1 else net) for net in networks)


NETWORKS = Kind(
    read_networks, "addresses or networks such as 10.0.0.0/8, in a list, or *", "ADDRESS,...", show_networks
)
