"""`python -m waybill`: the command line."""

from waybill.cli import main

main()
