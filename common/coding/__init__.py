"""How an image becomes shares, but for the erasure code itself (`common.erasure`).

redundancy   k and n, from how many devices there are
slicing      where an image is cut into segments, and a sealed segment into blocks
recipe       the public description of an encoding: sizes, and the digest of each block
commitments  what makes a commitment its owner's word, and which of two holds
"""
