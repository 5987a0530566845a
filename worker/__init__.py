"""The worker: keeps shares on this device's disk. One worker, one store, one device.

In the order of a share's way:

    command        options, joining the cluster
    server         the loop: messages from the brokers in, answers out
    requests       a request, and the answer to it
    service        what each operation that changes something does: check → append → sync → acknowledge
    answering      what those get that read, go on, or mend
    leases         which of several brokers mends an encoding
    store          who may store, read, delete what, and when; nothing is acknowledged before it is durable
    layout         where everything lies in a store
    stocktaking    the start: what lies there is made certain, and read
    holdings       the books: what is held, and what brokers are still to be told
    room           how much more fits, and what gives way
    staged         the shares on their way, and when their time is up
    staging        one of them: blocks appended, not yet committed
    recovery       one of them found again at the next start
    committing     shares made durable, many in one round
    share_file     the format of a share's file, bytes only
    reading        committed shares opened, checked and read
    scrub          everything read once a week; `scrub_cursor` says how far it came
    quarantine     what was found bad
    deleting       what is deleted, taken back and given up: by `tombstones`, into the `trash`
    durability     renames and small files made durable; the end of all writing once an fsync failed
    declining      what is not carried out, as the answer that says why
    clock          the wall clock, believed while it goes like a clock
    disk           the handful of calls to the operating system, so that a test can make each of them fail
    registration   tells each broker who we are, what we hold and what was deleted
    connections    one connection to each broker, as brokers come and go
    brokers        which brokers those are, from what the brokers say of each other
    whereabouts    at which addresses they may be, when none is reached any more

It has no vault key, and no way to get at one.
"""
