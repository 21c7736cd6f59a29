"""`python -m hokku`: the command line."""

from hokku.cli import main

if __name__ == "__main__":
    main()
