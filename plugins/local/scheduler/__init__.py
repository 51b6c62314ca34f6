"""The local scheduler: a spool (queue and accounting in one SQLite file) and supervisors that run its jobs.

It stands on its own and on the standard library alone, since a supervisor must start in a few milliseconds: nothing in
here imports the gateway.
"""
