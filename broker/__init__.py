"""The broker: authenticates, routes messages, knows who is alive and who holds what.

In the order of a message's way:

    command          the command line; `supervisor`: the broker as a child that is started anew when it ends
    folder           where a broker keeps what it knows, and whose it must be
    authentication   admits or refuses every CURVE key before its first message (ZAP), by the list of members, and
                     every token at the port for lanes
    lanes            who was granted a lane, and what came on it
    server           the ROUTER sockets and the loop: frames in, frames out
    sessions         one connection of one key, and the messages to it
    switchboard      who a message is from, whether it may be, and where it goes; knows sessions, no sockets
    coding           codes what a client sends once for all shares, and makes of it what each device is asked
    rights           which role may ask which operation
    adding           whether what an add-only client commits only adds
    strikes          who broke the protocol three times, and is not heard for a while
    overruns         who is over a limit: said in log, audit log and status
    credit           what each client has under way, so that a stalled device costs bounded memory
    memory           the end of the process before its memory's limit
    queries          answers what is asked of the broker itself
    devices          who is here, who is away and for how long
    catalog          who holds what, as workers announce it
    claims           what is said of an encoding, and by whom
    plain            the same of nearly all: one claim, which stays packed as in its row
    entries          the encodings that are worked on, of all in the rows; `objects` and `owned`: the rest of the rows
    catalog_rows     the catalog's rows in SQLite
    catalog_file     the file that keeps them: a cache, made anew where it cannot be trusted
    change_log       which objects changed lately, for clients whose index is in step up to a number
    budget           how much room and memory that takes, by whose word
    tombstones       what was deleted or taken back, as the devices tell it; in memory only
    signature_checks how many of their signatures each device may have checked
    storing          whether what a client asks to be stored may be, by what follows
    quota            how much one vault, and one client's vaults, may have in the whole cluster
    vault_origins    which client brought which vault: kept on disk, so that a restart forgives nobody
    placement        which devices get an encoding's shares
    steward          notices what is lost or damaged, and has it rebuilt
    retiring         devices that are emptied, and then taken off the list
    members          the list of admitted keys and of invites
    audit            who was admitted, refused or banned, and who asked for what: a file of one line each, chained by
                     `audit_chain`; what goes into it `audit_trail` decides; `syslog` hands it on
    inviting         what an invite says of its brokers
    listening        where it listens, and where others reach it
    list_marks       what tells a broker, by its peers, that its list is an old copy
    own_entry        how a broker gets onto its cluster's list of members, at each start
    announcer        has the LAN told that there is a broker, by `mdns`, a process without a key
    other_brokers    passes the list of members on to the cluster's other brokers, and takes up theirs

It has no vault key, and no way to get at one.
"""
