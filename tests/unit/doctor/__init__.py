"""One module of tests for each module of wsgi_proxy.doctor that decides; what asks meets real servers."""
