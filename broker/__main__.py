from common.process.stopping import end_silently_while_loading

end_silently_while_loading()

from broker.command import main

if __name__ == "__main__":
    main()
