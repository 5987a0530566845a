"""The messages that programs exchange: bytes in, values out; no socket, clock or disk.

Every message is two or three frames:

    envelope   60 or 76 bytes, fixed      `envelope`: who to, which request, which operation
    header     msgpack, at most 4 KiB     `messages`, `device_messages`: asked or answered, checked by type
    payload    bytes, at most 4 MiB       blocks, recipes, mappings or long lists; absent where there are none

What there is to ask, of whom, by whom and with which messages is one table, `operations`; how things are named,
`identifiers`; what the owner signs, `signatures`; who approves that a trash is emptied early, `approvals`; the digest
by which a broker and a device find that they agree, `announcements`. The broker forwards by the envelope alone. `codec`
turns structures into msgpack and back under limits: whatever does not have the expected shape is a `ProtocolError`, and
nothing of it is used.
"""
