"""`python -m xiaozao.cli` is `zao`."""

from xiaozao.cli.main import main

main()
