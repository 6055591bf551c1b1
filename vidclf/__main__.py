"""`python -m vidclf`, the same as the command `vidclf`, for a checkout that is not installed."""

from vidclf.command import main

if __name__ == "__main__":
    main()
