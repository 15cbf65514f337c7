"""The rules that hold between files: what one of them may say depends on another.

In: models of the configuration. Out: findings. All of it is pure.

`entity_choices` compares what a registration says of single entities with the catalog, `sharing` sees that no two tenants receive the same
rows by mistake, `tenant_connections` says which connections the policy lets a tenant name, and `seldom_meant` warns of what a catalog may
say and seldom means.
"""

__all__ = ["entity_choices", "seldom_meant", "sharing", "tenant_connections"]
