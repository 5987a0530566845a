"""Administration: joining, vaults, status; what is neither storing nor restoring.

Uses the cluster as a client does; `command` is the command line, `status` asks the broker for its devices.
"""
