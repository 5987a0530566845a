"""The worker: keeps shares on this device's disk. One worker, one store, one device.

In the order in which a share passes them:

    command           options, joining the cluster
    server            the loop: messages from the brokers in, answers out
    service           what each operation does: check → append → sync → acknowledge; or read, and answer
    leases            which of several brokers repairs an encoding
    store             who may store, read, delete what, and when; nothing is acknowledged before it is durable
    layout            the paths of a store
    startup_scan      at the start: what is in the store is fsynced, then indexed
    inventory         what is held, and what of it is not announced yet
    capacity          how much more fits, what is evicted for it, and how much of it one owner may take
    staging           shares being stored: blocks appended, not yet committed; they survive a restart
    committing        shares made durable, many in one round
    share_file        the format of a share's file, bytes only
    format_version    files of versions that this worker does not know, which are left alone
    reading           committed shares opened, checked and read
    amending          replaces the commitments of shares, in `amendments` beside them
    scrub             reads and checks everything once a week
    quarantine        shares that were found bad
    deleting          deletes, undeletes and discards: by `tombstones`, into the `trash`
    reserve           room that is kept for deleting on a full disk
    durability        renames and small files made durable; the end of all writing once an fsync failed
    refusals          the answers to what is refused
    clock             the wall clock, trusted while it agrees with the monotonic one
    disk              the calls to the operating system, so that a test can make each of them fail
    registration      announces to each broker who we are, what we hold and what was deleted, again where no answer came
    connections       one connection to each broker, as brokers come and go

It has no vault key, and cannot get one.
"""
