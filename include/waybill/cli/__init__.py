"""The command line: the use cases without a scheduler, one command each. Exit 0 done, 1 refused with a message, 2 usage."""

from waybill.cli.app import main

__all__ = ["main"]
