"""Who looks at a page. `session` knows it from Airflow or a cookie, and `identity` asks the house's identity provider."""
