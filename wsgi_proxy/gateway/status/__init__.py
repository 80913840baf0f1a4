"""The status page: what all workers of a server know of its sessions, for people and as JSON."""
