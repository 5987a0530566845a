"""The producer: slices an image, encrypts, encodes and sends it.

In the order of an image's way:

    sources       which files there are to store, from arguments, folders and stdin
    reading       read → slice: a file's bytes and their SHA-256, and whether the file was changed meanwhile
    encoding      seal → encode: one encryption and coding of one image, its recipe and its mapping
    batch         send → commit for images of one segment, many at a time
    stream        read → … → send for longer ones, segment by segment
    segments      the memory that images are sealed and coded into, and segments under way from there
    distribution  the shares of one streamed image on their devices: opened, appended, moved, committed
    target        where all of it goes: whose vault (`owner`), how coded, on which devices; what is there already
    events        what is told meanwhile, and what came of it
    journal       what is written ahead, so that a put that was interrupted goes on
    threads       what waits for a disk or a pipe runs beside the event loop
    owner         whom they are stored for
    run, work     many sources, stored side by side; one run, from the options to the report
    command       the command line, which alone prints
"""
