"""Files in each format: CSV for scheduled deliveries; the others for on-demand exports."""
