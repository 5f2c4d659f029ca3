"""`python -m ptqbench`."""

from ptqbench.cli import main

main()
