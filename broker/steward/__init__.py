"""The part of the broker that notices lost or damaged shares and rebuilds them, without any key.

In the order to read them:

    assessment  what one encoding lacks, from what is known of it
    survey      that of all encodings, kept up to date as things change
    findings    what the survey found, in rows beside the catalog's
    plan        from what is lacking, or needless, to a task: what comes from where and goes where
    turns       of all that is to be done: owners take turns
    balance     the same for evening out after devices were added
    repair      carries out one task: lease, agree, open, transfer, commit, read, discard
    trampoline  drives a repair's steps, each a generator that yields what it asks
    agreement   which commitment holds, of those that the devices have
    requests    what is under way to devices: few at a time, within a rate, each with an end
    deletion_propagation
                deletions told to devices that were away
    log         what is said of it
    steward     drives all of it
    answers     what clients ask of it

Towards a worker it speaks as a client does, with requests of its own session. All of it is without socket, clock and
disk: replies and the time come in, requests go out.
"""
