# The image runs the same steps as `make`: a virtual environment, the package, one command.
FROM python:3.13-slim

RUN useradd --create-home --uid 10001 soda \
    && mkdir -p /data /catalog \
    && chown soda:soda /data /catalog

WORKDIR /opt/soda-service
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY soda_service soda_service
COPY config config
COPY votable_templates votable_templates
RUN python -m venv .venv \
    && .venv/bin/python -m pip install --no-cache-dir --quiet --constraint constraints.txt .
ENV PATH=/opt/soda-service/.venv/bin:$PATH

USER soda
ENV SODA_HOST=0.0.0.0 \
    SODA_PORT=8080 \
    SODA_DATA_DIR=/data \
    SODA_CATALOG=sqlite:////catalog/catalog.sqlite \
    SODA_CACHE_DIR=/catalog/cache \
    SODA_SPOOL_DIR=/catalog/spool
VOLUME ["/data", "/catalog"]
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"SODA_PORT\"]}/health', timeout=2)"]
ENTRYPOINT ["soda-service"]
CMD ["serve"]
