"""
gunicorn's settings for production; read by `gunicorn` in this directory, or with `-c gunicorn.conf.py`.

    WSGI_PROXY_UPSTREAM=http://127.0.0.1:8000/v1 gunicorn -c gunicorn.conf.py

What belongs to the proxy (upstream, bind, workers, limits, timeouts) comes from wsgi-proxy.toml and from WSGI_PROXY_*
in the environment. Everything else is gunicorn's: assign it below, or give it on the command line. To serve your own
Flask application, into which the blueprint is mounted, name it: `gunicorn -c gunicorn.conf.py shop:app`.
"""

from wsgi_proxy.gateway.production import configured

globals().update(configured())

# The stock worker works as well; it is given this project's upgrade handler:
# worker_class = "geventwebsocket.gunicorn.workers.GeventWebSocketWorker"

# Load the application once, before the workers are forked; changed code then needs a full restart, and so do changed
# settings if this project is mounted into another application:
# preload_app = True

# One line for each request that is not a WebSocket:
# accesslog = "-"

# The log in a file, which `wsgi-proxy print logrotate` rotates; without it, it is standard error:
# errorlog = "/var/log/wsgi-proxy/error.log"
# pidfile = "/run/wsgi-proxy/pid"
