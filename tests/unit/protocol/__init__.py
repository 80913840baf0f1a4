"""One module of tests for each module of wsgi_proxy.protocol, and one for the rules of the reference."""
