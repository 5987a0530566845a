"""How programs reach a broker: CURVE-secured DEALER sockets.

`sockets` makes every socket of the product, with the same options. `connection` watches one: is it up, was it refused.
`link` is what producer, consumer and admin use: requests with deadlines, answered in any order. `attachment` is its
socket to the broker in use, `succession` says which broker that is, and which is next. `window` keeps what is under way
within what the broker granted. The worker serves requests rather than asking; its loop is in `worker/`.
"""
