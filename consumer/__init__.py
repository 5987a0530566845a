"""The consumer: finds, gathers, decodes, decrypts, verifies and writes an image."""
