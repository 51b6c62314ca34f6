"""For any WSGI server: `gunicorn -c conf/gunicorn.conf.py wsgi:application`."""

from gateway.app import create_app
from gateway.config import load_config

application = create_app(load_config())
