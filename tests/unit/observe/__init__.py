"""Tests of `wsgi_proxy.observe`."""
