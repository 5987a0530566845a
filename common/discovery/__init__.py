"""Finding brokers on the LAN by DNS-SD over mDNS (RFC 6763, RFC 6762).

    announcement   what a broker announces, and how announcements are parsed: pure
    search         the search, with python-zeroconf, in an event loop or in a thread of its own
    addresses      whether others reach an address, and which is this machine's own

Announcements are not trusted: they only say where to try. Connections are by CURVE, with a public key that is known
already or named by the invite.
"""
