"""Fetches whole deliveries from a place into a folder, in the order of their chains, and no further than the first gap.

In: an open `Place`, and a folder on this disk. Out: the files of each delivery, the manifest last, and a report of what came and what did
not. What is there already is not fetched again, and a file continues where it stopped.

`pulling.pull` does all of it. `finding` finds what is new: it follows the sender's feed (`feed`, `feed_reader`), or walks the dates if
there is none, and yields `arrivals`. A folder that cannot be listed keeps nobody from the others (`listing`). `fetching` brings one
delivery. `explaining` says in the end what could not be fetched, and why. `histories` refuses another tenant's folder, and another history
of the same tenant, and `failures` keeps what stopped a pull for `status`.
"""

from waybill_consumer.pull.explaining import Pulled
from waybill_consumer.pull.pulling import pull

__all__ = ["Pulled", "pull"]
