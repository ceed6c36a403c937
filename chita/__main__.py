"""`python -m chita`."""

from chita.cli.app import main

main()
