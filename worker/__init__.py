"""The worker: keeps shares on this device's disk. One worker, one store, one device.

In the order in which a share passes them:

    command           options, joining the cluster
    server            the loop: messages from the brokers in, answers out
    service           what each operation does: check → append → sync → acknowledge; or read, and answer
    leases            which of several brokers repairs an encoding
    store             who may store, read, delete what, and when; nothing is acknowledged before it is durable
    layout            the paths of a store
    share_states      the life of a share: held, damaged, deleted, surplus, and what leads from one to another
    index             where each share lies, and its state: in SQLite, made anew where it lacks
    packs             small shares, amendments, tombstones and approvers, one behind the other in files that only grow
    pack_format       the format of these, bytes only
    recovery          at the start: what packs and files have beyond the index
    capacity          how much more fits, what is evicted for it, and how much of it one owner may take
    staging           shares being stored: blocks appended, not yet committed; large ones survive a restart
    committing        shares made durable, many in one round
    share_file        the format of a share, bytes only
    format_version    what versions wrote that this worker does not know, which is left alone
    reading           committed shares opened, checked and read
    amending          replaces the commitments of shares
    amendments        the format of what replaces one, bytes only
    scrub             reads and checks everything once a week
    deleting          deletes, undeletes and discards: by tombstones
    tombstones        the format of these, bytes only
    approving         whom an owner names to approve that a trash is emptied early
    approver_lists    the format of these lists, bytes only
    removing          what goes for good
    compaction        packs that lost much, written anew
    reserve           room that is kept for deleting on a full disk
    durability        fsyncs of files and folders; the end of all writing once one failed
    refusals          the answers to what is refused
    clock             the wall clock, trusted while it agrees with the monotonic one
    disk              the calls to the operating system, so that a test can make each of them fail
    registration      announces to each broker who we are, what we hold and what was deleted, again where no answer came
    connections       one connection to each broker, as brokers come and go

It has no vault key, and cannot get one.
"""
