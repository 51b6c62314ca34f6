"""A site's settings for gunicorn; the defaults are in gateway/gunicorn.py, every name there can be set here."""

from gateway.gunicorn import *  # noqa: F403

# bind = "127.0.0.1:5000"   # nginx stands in front and speaks TLS: docs/operations.md
# workers = 4               # processes; about two per core
# threads = 128             # requests that one process serves at once
