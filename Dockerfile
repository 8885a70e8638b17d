# One image for both services: `smartpipe policy`, `smartpipe rating`, `smartpipe migrate`.
# Pin the base by digest where you build: --build-arg PYTHON_IMAGE=python:3.11-slim@sha256:...
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build

# Dependencies first: this layer changes only with the lock. Everything comes by hash, and as a wheel, so that no
# package runs code of its own while it is installed. The target environment has no pip.
COPY requirements-runtime.lock requirements-build.lock ./
RUN python -m venv --without-pip /opt/smartpipe \
    && python -m pip --python /opt/smartpipe/bin/python install --require-hashes --only-binary :all: \
        -r requirements-runtime.lock \
    && python -m pip install --require-hashes --only-binary :all: -r requirements-build.lock

COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY services services
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /build/dist . \
    && python -m pip --python /opt/smartpipe/bin/python install --no-deps --no-index /build/dist/*.whl

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="Smartpipe" \
      org.opencontainers.image.description="Classify, tariff and charge OTT traffic, exactly once." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"

# Numeric, so that Kubernetes can see that it is not root. /data is for the embedded log, outside of Kubernetes.
RUN groupadd --gid 10001 smartpipe \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin smartpipe \
    && install --directory --owner=10001 --group=10001 /data
COPY --from=build /opt/smartpipe /opt/smartpipe
ENV PATH=/opt/smartpipe/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SMARTPIPE_DATA_DIR=/data
WORKDIR /data
USER 10001:10001
EXPOSE 8080 9101 9102
STOPSIGNAL SIGTERM
HEALTHCHECK NONE
ENTRYPOINT ["smartpipe"]
CMD ["--help"]
