"""The client's side: gevent, gevent-websocket, Flask and gunicorn live here."""
