"""The worker: keeps shares on this device's disk. One worker, one store, one device.

In the order of a share's way:

    command           options, joining the cluster
    server            the loop: messages from the brokers in, answers out
    service           what each operation does: check → append → sync → acknowledge; or read, and answer
    leases            which of several brokers mends an encoding
    store             who may store, read, delete what, and when; nothing is acknowledged before it is durable
    layout            where everything lies in a store
    startup_scan      the start: what lies there is fsynced, then indexed
    inventory         what is held, and what brokers are still to be told
    capacity, quota   how much more fits, what gives way, and how much of it one owner may take
    staging           the shares on their way: blocks appended, not yet committed, gone on with after a restart
    committing        shares made durable, many in one round
    share_file        the format of a share's file, bytes only
    reading           committed shares opened, checked and read
    amending          what lies beside shares replaced, in `amendments` beside them
    scrub             everything read once a week
    quarantine        what was found bad
    deleting          what is deleted, taken back and given up: by `tombstones`, into the `trash`
    durability        renames and small files made durable; the end of all writing once an fsync failed
    refusals          what is not carried out, as the answer that says why
    clock             the wall clock, believed while it keeps step with the monotonic one
    disk              the handful of calls to the operating system, so that a test can make each of them fail
    registration      tells each broker who we are, what we hold and what was deleted, again where no answer came
    connections       one connection to each broker, as brokers come and go

It has no vault key, and no way to get at one.
"""
