"""The worker: keeps shares on this device's disk."""
