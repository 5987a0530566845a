"""How an image becomes shares: all that the erasure code (`common.erasure`) is told, and nothing that it computes.

redundancy  k and n, from how many devices there are
slicing     where an image is cut into segments, and a sealed segment into blocks
recipe      what a share says about its encoding: sizes, and the digest of each block
"""
