# Waybill on Airflow's own image. The runtime lock is installed with its hashes checked; test and benchmark tools stay out.
FROM apache/airflow:3.3.2-python3.12

WORKDIR /opt/airflow

COPY --chown=airflow:root requirements-runtime.txt /tmp/waybill/
RUN pip install --no-cache-dir --require-hashes -r /tmp/waybill/requirements-runtime.txt

# setup.py adds the consumer's package, what `waybill init` copies, and the documentation where `make docs` has built it.
COPY --chown=airflow:root pyproject.toml setup.py README.md LICENSE /tmp/waybill/
COPY --chown=airflow:root include /tmp/waybill/include
COPY --chown=airflow:root consumer /tmp/waybill/consumer
COPY --chown=airflow:root dags /tmp/waybill/dags
COPY --chown=airflow:root plugins /tmp/waybill/plugins
COPY --chown=airflow:root examples /tmp/waybill/examples
COPY --chown=airflow:root LICENSE sit[e] /tmp/waybill/site/
RUN pip install --no-cache-dir --no-deps --no-build-isolation /tmp/waybill && rm -rf /tmp/waybill

# Copies of the file of tenants' DAGs, so that each holds few enough to be parsed quickly: see docs/operating.md.
ARG WAYBILL_DAG_FILES=1
COPY --chown=airflow:root dags dags
RUN for number in $(seq 2 "${WAYBILL_DAG_FILES:-1}"); do cp dags/tenant_exports.py "dags/tenant_exports_$number.py"; done
COPY --chown=airflow:root plugins plugins
COPY --chown=airflow:root config config

ENV WAYBILL_CONFIG_DIR=/opt/airflow/config \
    WAYBILL_DAG_FILES=${WAYBILL_DAG_FILES} \
    WAYBILL_SPOOL_DIR=/opt/airflow/waybill/spool \
    WAYBILL_ARCHIVE_URL=file:///opt/airflow/waybill/archive \
    AIRFLOW__CORE__LOAD_EXAMPLES=False
RUN mkdir -p /opt/airflow/waybill/spool /opt/airflow/waybill/archive
