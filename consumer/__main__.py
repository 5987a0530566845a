from consumer.consumer import main

if __name__ == "__main__":
    main()
