"""`python -m soda_service` is the command line."""

from soda_service.cli import main

main()
