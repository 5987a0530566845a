"""The consumer: finds, gathers, decodes, decrypts, verifies and writes an image.

In the order of an image's way:

    hashes       how people name images
    destination  where they want them
    holdings     what the vault holds: the catalog's encodings with their mappings; from a hash or prefix to an image
    asking       questions to devices, those to the same device in one message
    choice       which shares to take a segment's blocks from, and which next when one fails
    gathering    locate → gather → check: a segment's k good blocks
    restoring    decode → open → verify: the image, segment by segment
    output       where it is written: under another name until it is proven, then renamed
    session      what all images of one run share
    watching     what is told of devices and their shares meanwhile
    work         one run, from unlocking the vault to the exit code

What is believed, and why, is in `common.vault.trust`.
"""
