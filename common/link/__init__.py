"""How programs reach a broker: CURVE-secured DEALER sockets.

`sockets` makes every socket of the product, with the same options, and watches one: is it up, was it refused. `link` is
what producer, consumer and admin use: requests with deadlines, answered in any order; `questions` are those that
clients ask the broker. `attachment` is its socket to the broker in use, `succession` says which broker that is, and
which is next. `window` keeps what is under way within what the broker granted. A request that has no answer is sent
again when `resending` says so; a broker that says nothing is given up by `connection`, looked for on the LAN by
`seeking`, and why it is not reached tells `unreached`. What a request comes to is in `replies`. `joining` trades an
invite for a place in the cluster. The worker serves requests rather than asking; its loop is in `worker/`.
"""
