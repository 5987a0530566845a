"""Administration: what is neither storing nor restoring. Uses the cluster as a client does.

command            the command line: joining; the others' commands are registered with it
device_commands    status, retire, rebalance
image_commands     verify, repair, strengthen, delete, undelete
vault_commands     vaults: made, copied, protected; the keyring
recovery_commands  recovery codes: printed, and the vault restored from them
contact_commands   contacts, share, unshare

vault_work     what every command about images begins with, and how it changes many of them
events         what all of it tells meanwhile; `printer` prints that
status         the devices, and what the steward says of all encodings
health         how much is at hand of an image, and what that means for its owner
verifying      verify: what is there, or every block fetched and checked end to end with the key
repairing      repair: asks the steward, and follows it; or makes what is missing on devices that were named
strengthening  strengthen: stored anew with today's devices, and the old encoding deleted
moving         retire and rebalance: asks the steward likewise, for devices
deleting       delete and undelete, by the delete capability
amending       what lies beside all shares of an encoding is written anew
sharing        share and unshare: so that others may read it
rotating       vault rotate: so that another vault key opens it
joining        lets this machine into a cluster
"""
