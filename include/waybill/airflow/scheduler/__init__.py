"""What the pages and the API ask of Airflow, and what they hear from it.

`airflow_scheduler` starts runs and announces changes, `reparsing` has a tenant's DAG file parsed until its DAG is there, and `state` reads
from Airflow's tables what its DAGs do now.
"""

from waybill.airflow.scheduler.airflow_scheduler import AirflowScheduler

__all__ = ["AirflowScheduler"]
