"""What `waybill demo` and the examples show: a made-up company, its warehouse, and the servers around it.

The demo is beside the product and not in its wheel. `story` is `make demo`, and `counter` is `make demo PRESET=...`. `stage` makes their
folder and environment, `sample` reads what a preset shows, and `standalone` runs a real Airflow. `sftp_server`, `issuing` and `mailbox` are
the servers, `consumer` reads everything back, and `warehouse/` draws the data.
"""
