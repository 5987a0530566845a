"""How programs reach a broker: DEALER sockets, with CURVE and on the lanes that it admits to.

`link` is what producer, consumer and admin use: requests with deadlines, answered in any order; `questions` are those
that clients ask the broker. What is sent when, and to which broker, decides `client_protocol`, which has no socket and
no clock: with `broker_list` (which brokers there are, and which is next), `connection` (when one is silent for too
long), `admission` (how much may be under way; `window` is that for coroutines) and `replies` (what a request comes to).
`stragglers` says how long a silent device is waited for, `diagnosis` why a broker is not reached. `joining` reads an
invite and trades it for a place in the cluster. A `channel` is one connection to a
broker, on CURVE until a `lane` stands, whose frames are sealed there. `sockets` makes every socket of the product, with
the same options, and watches one. The worker serves requests rather than asking; its loop is in `worker/`.
"""
