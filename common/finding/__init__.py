"""Finding brokers on the LAN by DNS-SD over mDNS (RFC 6763, RFC 6762).

    announcement   what a broker says of itself, and how what anybody says is read: pure
    looking        the search, with python-zeroconf, in an event loop or in a thread of its own
    addresses      whether others reach an address, and which is this machine's own

Nothing of an announcement is trusted: it only says where to try. Who connects there does so by CURVE, with a public key
that it knows already or that its invite names.
"""
