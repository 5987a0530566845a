"""Administration: what is neither storing nor restoring.

command            the command line: joining; the others' commands are registered with it
device_commands    status, retire, rebalance
image_commands     verify, repair, strengthen, delete, undelete
snapshot_commands  forget, prune
vault_commands     vaults: create, copy, protect; the keyring
recovery_commands  recovery codes: print them, restore the vault from them
contact_commands   contacts, share, unshare
approver_commands  approvers: who has to agree that a trash is emptied early

vault_work     what all commands about images share
events         the events of all of them; `printer` prints these
status         the devices, and the health of all images
health         the health of one image, by the shares at hand
verifying      verify: which shares are there, or every block fetched and checked with the key
repairing      repair: by the steward; or by this machine, on named devices
null_target    a target for what is only read to be proven
needless       repair, of what is stored twice: keep one encoding, and delete the others
strengthening  strengthen: store anew with today's devices, and delete the old encoding
moving         retire and rebalance, by the steward
deleting       delete and undelete, by the owner's signature
undeleting     undelete, and with a snapshot what it names
approving      approvers: names them, asks them, and has the trash emptied that enough of them signed
approval_files the files that go to approvers and back, bytes only
retention      forget: which snapshots a policy keeps
pruning        prune: deletes what no snapshot names
prune_plans    what a prune is about to delete, kept in the vault while it does
quorum         how many devices must take a change for it to be called done
amending       replaces the commitment of all shares of an encoding
sharing        share and unshare: lets others read an image
rotating       vault rotate: replaces the vault key
reclaiming     vault reclaim: takes back what somebody else with the key deleted, changed or gave away
superseded     what devices hold of what was replaced, in a temporary file, and what of it is chosen
joining        joins this machine to a cluster
"""
