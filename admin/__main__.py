from admin.admin import main

if __name__ == "__main__":
    main()
