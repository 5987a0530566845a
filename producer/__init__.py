"""The producer: slices an image, encrypts, encodes and sends it.

In the order in which an image passes them:

    sources       which files there are to store, from arguments, folders and stdin
    excluding     which of them are left out by patterns in git's syntax
    metadata      what a tree keeps of a file beside its content
    choosing      which of them are kept by their names where only images are wanted
    reading       read → slice: a file's bytes and their SHA-256, and whether the file was changed meanwhile
    encoding      seal → encode: one encryption and coding of one image, its recipe and its mapping
    batch         send → commit for images of one segment, many at a time
    coded_batch   which of these the broker codes, and the message that takes them there
    stream        read → … → send for longer ones, segment by segment
    segments      the buffers that images are sealed and coded into, and sending them
    distribution  the shares of one streamed image on their devices: opened, appended, moved, committed
    broker_coding  whether the broker codes what is sent, and what becomes of one that does it wrongly
    target        vault (`owner`), coding and devices of one run; what is stored there already
    events        progress, and the outcome of each source
    journal       the write-ahead journal by which an interrupted put is resumed
    threads       a few threads for what waits for a disk or a pipe
    owner         the vault that images are stored for
    trees         the trees of a run's folders, put together from below
    recording     what the snapshot of a run says beside them
    run           one run, from the options to the report: many sources, stored concurrently
    command       the command line, which alone prints
"""
