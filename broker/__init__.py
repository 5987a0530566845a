"""The broker: authenticates, routes messages, knows who is alive and who holds what."""
