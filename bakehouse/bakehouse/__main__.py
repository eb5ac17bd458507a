"""`python -m bakehouse`: the command, where no script of that name is on the path."""

from bakehouse.cli import main

if __name__ == "__main__":
    main()
