"""What the templates run on the host. Each program is sent as one script, `common` in front of it; none imports
anything of the gateway. They find in the environment where the storage is (LETSMT_STORAGE), for which path they run
(LETSMT_PATH, or JOBGATE_FILE in a run over a subtree), and their tools."""
