"""The viewer: a process of its own that decodes what may be hostile, so that producer and desktop never do.

What runs in it has no key, no environment of its parent's, no handle but its two pipes, and nobody imports it:

    decoding      Pillow: format, pixels, thumbnail
    limits        what the process denies itself before it meets the first image
    system_calls  the few that it may make
    __main__      the loop: an image is named, read piece by piece from the parent, and answered

What its parent imports, which decodes nothing:

    process   starts it, asks it, ends it, and believes little of what it answers
    picture   what that answer, or an image's first bytes, say: format, pixels, thumbnail; advisory only

and what both speak:

    messages  frames on two pipes
"""
