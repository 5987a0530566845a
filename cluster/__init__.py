"""A whole cluster on this machine, as separate processes: for the demo, the tests and the bench."""
