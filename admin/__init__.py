"""Administration: joining, vaults, status; what is neither storing nor restoring."""
