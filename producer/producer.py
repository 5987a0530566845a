import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the checkout's root, in place of this folder

from common.process.privacy import keep_passphrases_hidden
from common.process.stopping import end_silently_while_loading

end_silently_while_loading()
keep_passphrases_hidden()

from producer.command import main as main

if __name__ == "__main__":
    main()
