"""Administration: what is neither storing nor restoring. Uses the cluster as a client does.

command           the command line: joining; the others' commands are hung into it
device_commands   status, retire, rebalance
image_commands    verify, repair, delete, undelete
vault_commands    vaults: made, copied, protected

session           one run with an unlocked vault: the link, the vault's images, from a hash to an image
status            the devices, and what the steward says of all encodings
events            what all of it tells meanwhile; `printer` prints that
health            how much is at hand of an image, and what that means for its owner
proving           verify: what is there, or every block fetched and checked end to end with the key
mending           repair: asks the steward, and follows it
moving            retire and rebalance: likewise, for devices
deleting          delete and undelete, by the delete capability
"""
