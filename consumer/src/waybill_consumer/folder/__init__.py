"""The folder that `pull` fills and `load` reads: what it holds, how far both got, and what is missing.

In: the folder's path. Out: its deliveries, its position, and problems for people. Nothing here asks the sender.

`position` remembers what was fetched (`.waybill-consumer.json`), and `last_loads` what each database took. `holdings` reads the manifests
themselves, `missing` finds what was fetched and is gone, and `status` puts all of it together for `waybill-consumer status`. `lock` lets
one pull at a time write, and `files` writes, hashes and compares single files.
"""

from waybill_consumer.folder.holdings import Held, Holdings
from waybill_consumer.folder.last_loads import Loads
from waybill_consumer.folder.position import Kept, Position
from waybill_consumer.folder.status import Status

__all__ = ["Held", "Holdings", "Kept", "Loads", "Position", "Status"]
