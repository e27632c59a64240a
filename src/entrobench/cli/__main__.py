"""`python -m entrobench.cli`, for processes that are started by the path of their Python."""

from entrobench.cli.app import main

main()
