"""The API: JSON below `/api/v1`, described by OpenAPI, readable and usable at `/docs`.

In: bodies and parameters, which follow the same rules as files. Out: answers whose shapes are in `models`, those about export requests in
`requests.answers`.

Each subject has a module: `registrations` (and `sole_tenant`, the same without a tenant in the path), `deliveries`, `requests`,
`recurring`, `downloads` (archives behind signed links). `openapi` completes the document, `code_samples` makes its calls and examples,
`reference` shows it.
"""

__all__ = ["deliveries", "downloads", "openapi", "recurring", "reference", "registrations", "requests", "sole_tenant"]
