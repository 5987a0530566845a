"""Snapshots over a cluster in memory, by schedules of chance."""
