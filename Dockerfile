# One image for every worker and for the command line: `docker compose run --rm cli ...`, `... worker run NAME`.
FROM docker.io/library/python:3.11-slim AS build
RUN python3 -m venv /opt/twinlock
ENV PATH=/opt/twinlock/bin:$PATH
WORKDIR /source
COPY requirements-image.lock ./
RUN pip install --no-cache-dir --disable-pip-version-check --only-binary :all: --require-hashes -r requirements-image.lock
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY twinlock twinlock
COPY events events
COPY workers workers
COPY cli cli
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation . \
 && pip uninstall --yes --quiet uv_build pip \
 && python -m compileall -q /opt/twinlock/lib

FROM docker.io/library/python:3.11-slim
COPY --from=build /opt/twinlock /opt/twinlock
RUN groupadd --gid 10001 twinlock \
 && useradd --uid 10001 --gid twinlock --home-dir /var/lib/twinlock --no-create-home --shell /usr/sbin/nologin twinlock \
 && install --directory --owner twinlock --group twinlock /secrets /objects \
 && install --directory --owner twinlock --group twinlock --mode 0700 /var/lib/twinlock \
    /secrets/administrator /secrets/operator /secrets/tik_cache_refresher /secrets/dep_assigner \
    /secrets/mailbox_reencryptor /secrets/site_reencryptor /secrets/recovery_handler /secrets/alert_emitter \
    /secrets/audit_sealer /secrets/owner /secrets/customer /secrets/vault-1 /secrets/vault-1/data /secrets/vault-2 /secrets/vault-2/data \
    /secrets/provider-vault /secrets/provider-vault/data \
 && openssl version
ENV PATH=/opt/twinlock/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 TWINLOCK_HOME=/var/lib/twinlock
USER twinlock
WORKDIR /var/lib/twinlock
ENTRYPOINT ["twinlock"]
CMD ["--help"]
