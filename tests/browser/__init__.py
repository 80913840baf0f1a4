"""The status page in a browser; needs Chromium."""
