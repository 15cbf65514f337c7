"""What `waybill demo` and the examples show: a made-up company data warehouse and an embedded SFTP server."""
