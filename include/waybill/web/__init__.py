"""The HTTP shell: one application, put up inside Airflow's API server or alone by `waybill serve`."""
