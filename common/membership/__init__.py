"""A machine's keys, and the invites by which it joins a cluster.

    identity      a machine's CURVE key pair, by which the brokers know it, and which brokers it knows
    invite        a line with a broker's address, its key and a one-time secret, by which one machine may join
    short_invite  the same as a code that people read aloud, found over the LAN

Joining by an invite is in `common.link.joining`; the list of members is the broker's
(`broker.members`).
"""
