"""The consumer: finds, gathers, decodes, decrypts, verifies and writes an image.

In the order in which an image passes them:

    selecting    which images are listed or restored, by name and by when they were taken
    destination  where restored images are written
    gathering    locate → gather → check: a segment's k good blocks
    restoring    decode → open → verify: the image, segment by segment
    output       the file: under another name until the image is proven, then renamed
    group_commit  many files made durable together
    batch        many small images together
    restorer     many images at a time, each from the first encoding that can be restored
    snapshots    which snapshots there are, and what is in them; `differences` between two
    naming       the plan of names: under which path each entry of a snapshot is restored
    restore_tree  a snapshot, or a folder of it, into a `target_folder`
    events       progress by device and share, and the outcome of each image
    command      the command line, which alone prints, with `snapshot_commands`

How images are found and fetched is in `common.repository`; how they are checked, in `common.vault.trust`.
"""
