from broker.broker import main

if __name__ == "__main__":
    main()
