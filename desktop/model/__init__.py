"""View models: what the views show and do, without a window."""
