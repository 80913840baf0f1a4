"""The gateway, without a server."""
