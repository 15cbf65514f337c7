"""The database that holds the ledger: how it is opened, what it refuses, and what its time is.

In: the address in `WAYBILL_LEDGER_URL`. Out: transactions, and errors that say whether trying again can help.

`engine` opens SQLite or PostgreSQL and applies the migrations, `failures` translates what a database refuses, `taken` tells a row whose
place another one has, `rows` reads many rows of which one may be damaged, and `clock` tells the time that every process of an installation
goes by.
"""

from waybill.ledger.database.engine import Ledger

__all__ = ["Ledger"]
