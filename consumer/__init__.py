"""The consumer: finds, gathers, decodes, decrypts, verifies and writes an image.

In the order of an image's way:

    destination  where people want their images
    gathering    locate → gather → check: a segment's k good blocks
    checkpoint   what another attempt need not ask for again
    restoring    decode → open → verify: the image, segment by segment
    output       where it is written: under another name until it is proven, then renamed
    restorer     many images at a time, each from whichever of its encodings can be
    events       what is told meanwhile, of devices and their shares, and what came of each image
    command      the command line, which alone prints

How images are named, found and asked for is in `common.repository`; what is believed, and why, in `common.vault.trust`.
"""
