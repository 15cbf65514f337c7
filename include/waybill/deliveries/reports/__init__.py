"""What people are told about deliveries. Nothing here changes one.

`overview` looks at all tenants, `causes` at what failed and why, `describing` at one delivery, and `notifying` mails operators.
"""
