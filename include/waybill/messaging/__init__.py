"""Sends one message. `mail` hands it to the house's mail server, and `webhooks` posts it to an address.

`waybill.deliveries.reports` and `waybill.requests.mailing` decide who is told about what.
"""

__all__ = ["mail", "webhooks"]
