"""`python -m mild_bench`: the command line without the installed script."""

from mild_bench.cli import main

main()
