"""Reports about deliveries, for people. No module here changes a delivery.

`overview` looks at all tenants, `causes` at what failed and why, `describing` at one delivery, and `notifying` mails operators.
"""
