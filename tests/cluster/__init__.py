"""The real test cluster. `cluster` is its command, `fixture` its face in Python."""
