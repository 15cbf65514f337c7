"""The rules that hold between files: what one of them may say depends on another.

In: models of the configuration. Out: findings. All of it is pure.

`entity_choices` compares what a registration says of single entities with the catalog, `sharing` sees that no two tenants receive the same
rows by mistake, and `tenant_connections` says which connections the policy lets a tenant name.
"""

__all__: list[str] = []
