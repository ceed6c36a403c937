"""`python -m chita`."""

from chita.cli.app import main

if __name__ == "__main__":  # processes of a sweep import this module too
    main()
