"""The worker: keeps shares on this device's disk. One worker, one store, one device.

In the order of a share's way:

    server         the loop: messages from the brokers in, answers out
    service        what each operation does: check → append → sync → acknowledge
    store          the shares on disk and those being stored; nothing is acknowledged before it is durable
    staging        a share on its way: blocks appended, not yet committed
    committing     shares made durable, many in one round
    share_file     the format of a share's file, bytes only
    reading        committed shares opened, checked and read
    disk           the handful of calls to the operating system, so that a test can make each of them fail
    registration   tells each broker who we are and what we hold
    connections    one connection to each broker, as brokers come and go
    brokers        which brokers those are, from what the brokers say of each other

It has no vault key, and no way to get at one.
"""
