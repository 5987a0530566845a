"""The viewer: a process of its own that decodes what may be hostile, so that producer and desktop never do.

What runs in it has no key, no environment of its parent's, no handle but its two pipes, and nobody imports it:

    decoding      Pillow: format, pixels, thumbnail; or what headers tell, and a picture within a raw file or a HEIC
    headers       what a header tells of formats that Pillow does not open, by a reader for each:
    boxes, codestream, dicom, exif, heif, raw
    reading       how these read, and what they find
    limits        the limits that the process sets itself before the first image
    system_calls  the filter of system calls
    __main__      the loop: for each request it reads the image piece by piece from the parent, and answers

What its parent imports, which decodes nothing:

    process   starts it, sends requests, ends it; its answers are not trusted
    picture   media type, pixels, thumbnail, facts, by that answer or an image's first bytes; advisory only

and what both import:

    signatures  the media type by a file's first bytes
    messages  frames on two pipes
"""
