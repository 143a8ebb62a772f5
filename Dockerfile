# One image for both halves; the command chooses (`serve`, `ingest`, `exporter`, `migrate`, ...).

# `make pin` adds the digest that the registry has for this tag. Releases are built with it.
ARG PYTHON=python:3.13-slim-trixie
FROM $PYTHON AS build
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ONLY_BINARY=:all:
WORKDIR /source
COPY container/build.lock container/embedded.lock requirements.lock ./
# With the value "embedded", the image has the embedded database, too.
ARG EMBEDDED=
# Only wheels whose hash is in a lock file are installed, also for the build.
RUN pip install --require-hashes --requirement build.lock && \
    python -m venv --without-pip /opt/embedding-drift && \
    pip --python /opt/embedding-drift install --require-hashes --requirement requirements.lock && \
    if [ -n "$EMBEDDED" ]; then \
        pip --python /opt/embedding-drift install --require-hashes --requirement embedded.lock; fi
COPY pyproject.toml README.md LICENSE ./
COPY alertmanager alertmanager
COPY client client
COPY exporter exporter
COPY ingest ingest
COPY rules rules
# No program imports the tests of libraries, 50 MiB, their sources and types, 11 MiB, and these parts of
# SciPy, 12 MiB.
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist ./client . && \
    pip --python /opt/embedding-drift install --no-deps dist/*.whl && \
    find /opt/embedding-drift -type d \( -name tests -o -regex '.*/scipy/\(cluster\|io\|odr\|signal\)' \) \
        -prune -exec rm -r {} + && \
    find /opt/embedding-drift -type f -regex '.*\.\(c\|cpp\|h\|pxd\|pyi\|pyx\)' -delete

FROM $PYTHON
COPY --from=build /opt/embedding-drift /opt/embedding-drift
COPY container/healthcheck.py /opt/healthcheck.py
ENV PATH=/opt/embedding-drift/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    EMBEDDING_DRIFT_SERVER_HOST=0.0.0.0
# The only folder that is written to: data of the embedded server, and rendered files. The images of
# Prometheus and Alertmanager run as the same user, so they can read a rendered webhook, which only
# its owner may read. Any other user may write, too, with the group 0, as OpenShift starts one.
RUN install --directory --owner=65534 --group=0 --mode=0775 /var/lib/embedding-drift
WORKDIR /var/lib/embedding-drift
USER 65534:65534
EXPOSE 10910 10911
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s \
    CMD ["python", "/opt/healthcheck.py"]
ENTRYPOINT ["embedding-drift"]
CMD ["serve"]
