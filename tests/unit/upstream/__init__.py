"""One module of tests for each module of wsgi_proxy.upstream that decides; what does I/O meets real servers."""
