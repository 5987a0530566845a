"""What whoever opened a vault does with its images on the devices: see which there are, and read what lies there.

    repository  one vault, open, and the cluster that holds its images: list, locate, whose they are
    hashes      how people name images
    images      what the vault holds: the catalog's encodings with their mappings, and the way from a hash to an image
    devices     questions to devices, together in few messages
    hedging     whom to ask, and whom as well where one is late
    latency     when one is

Consumer, admin and desktop stand on this, and none of them on another for it.
"""
