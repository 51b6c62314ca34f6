"""Alembic's folder. A new revision: change tables.py, then write versions/NNNN_what.py; a test compares both."""
