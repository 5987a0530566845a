"""Administration: what is neither storing nor restoring. Uses the cluster as a client does.

command           the command line: `joining`; the others' commands are hung into it
device_commands   status, retire, rebalance
image_commands    verify, repair, delete, undelete
vault_commands    vaults: made, copied, protected
recovery_commands, keyring_commands
                  the vault key in codes, the passphrase in the system's keyring
contact_commands  contact cards, share, unshare

session           one run with an unlocked vault: the link, the vault's images, from a hash to an image
status            the devices, and what the steward says of all encodings
events            what all of it tells meanwhile; `printer` prints that
health            how much is at hand of an image, and what that means for its owner
proving           verify: what is there, or every block fetched and checked end to end with the key; `proof` of when
mending           repair: asks the steward, and follows it
completing        repair --to: missing shares made here, for devices that are named
moving            retire and rebalance: likewise, for devices
strengthening     strengthen: images stored anew, by `reencoding`, for the devices that there are today
amending          what lies beside an encoding's shares, written anew: for `sharing`, and for `rotating` the vault key
ownership         which encodings are this vault's own
recovery_kit      the sheets on which recovery codes are printed
deleting          delete and undelete, by the delete capability
"""
