"""The producer: slices an image, encrypts, encodes and sends it."""
