"""The images of an open vault: listed, located, and read from the devices.

    repository  one open vault and the cluster that holds its images: list, locate, whose they are
    catching_up bringing the vault's index in step with what the cluster has
    images      what the vault holds: the catalog's encodings with their mappings, and the way from a hash to an image
    devices     requests to devices, batched in few messages
    hedging     hedged requests: whom to ask, and whom as well where one is late
    latency     when a device is late

Used by consumer, admin and desktop.
"""
