"""What is observed, without a server."""
