"""The viewer: a process of its own that decodes what may be hostile, so that the producer never does.

    decoding  Pillow: format, pixels, thumbnail
    limits    what the process denies itself before it meets the first image
    __main__  the loop: an image is named, read piece by piece from the producer, and answered

It has no key, no environment of the producer's, no handle but its two pipes, and nobody imports it.
"""
