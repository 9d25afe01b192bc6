"""`python -m edge.cli`: the same as `tidegate`."""

from edge.cli import main

main()
