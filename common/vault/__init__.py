"""All that needs or protects the vault key: the secret half of Tessera.

    keys            the vault key, and what follows from it: object ids, the owner's signatures
    signer          who signs what is stored: the owner, or who leaves it for one
    key_file        the vault key at rest, under a passphrase
    sealing         the segments of one encoding, under its own data key
    one_time        what is sealed once, or row by row, under a subkey of the vault key
    mapping         what ties a data key to an image, sealed under the vault key
    tree            what a folder held, and `snapshot`, what a run of the producer stored: sealed like images
    prune_plan      what a prune is about to delete: likewise
    granting        a mapping sealed for another vault's owner, by a `contact_card`
    trust           the checks on an image that is restored
    recovery_codes  the vault key in codes that people write down, by Shamir's scheme (`secret_sharing`)

These take bytes and give bytes, without socket or disk. The others keep files on this machine:

    folder          the key file; the `former_key` while a rotation is under way
    index           what the vault holds, and mappings, in sealed rows (`index_rows`); in order by its `dates`
    contacts        the contact cards that this machine knows, by name
    unlocking       opens the folder beside other work
    seen            files already stored, in the index, each known by its `stamp`
    passphrase      where a passphrase comes from, one being the `system_keyring`
    journal         the sealed journal of a put, by which it goes on after an interruption

Nothing under broker/ or worker/ may import this package; an import contract in pyproject.toml holds that. Those
programs get only what is sealed or hashed here, so whoever controls a broker or a device has no key.

Randomness comes from the operating system alone and is never an argument. Two limits are Python's: a key cannot be
wiped from memory, and swap and core dumps contain keys.
"""
