"""Who belongs to a cluster, and by what a machine comes to.

    identity      a machine's CURVE key pair, by which the brokers know it, and which brokers it knows
    invite        what a broker gives to one that is to join: a line with its address, its key and a one-time secret
    short_invite  the same as a code that people read aloud, found over the LAN

An invite is traded for a place over a link (`common.link.joining`); the list of members is the broker's
(`broker.members`).
"""
