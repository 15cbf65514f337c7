"""`python -m waybill` runs the command line."""

from waybill.cli import main

main()
