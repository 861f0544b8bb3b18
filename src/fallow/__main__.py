"""``python -m fallow``: the command line."""

from fallow.cli import main

if __name__ == "__main__":
    main()
