"""The consumer: finds, gathers, decodes, decrypts, verifies and writes an image.

In the order in which an image passes them:

    selecting    which images are listed or restored, by name and by when they were taken
    destination  where restored images are written
    gathering    locate → gather → check: a segment's k good blocks
    restoring    decode → open → verify: the image, segment by segment
    output       the file: under another name until the image is proven, then renamed
    restorer     many images at a time, each from the first encoding that can be restored
    events       progress by device and share, and the outcome of each image
    command      the command line, which alone prints

How images are found and fetched is in `common.repository`; how they are checked, in `common.vault.trust`.
"""
