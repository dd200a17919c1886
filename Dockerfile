# The latency profile with what a run needs, and nothing that builds or tests it. For amd64 and arm64.
#
#   docker build -t inference-benchmark .
#   docker run --rm inference-benchmark                                  profiles the embedded model server
#   docker run --rm inference-benchmark benchmark_serving.py --host=…    profiles yours
#
# Build arguments
#   DATASET    a file of the folder datasets/ beside this one that the image shall carry (none by default); it lies in
#              /datasets, and latency_throughput_curve.sh takes its prompts from it, where PROMPT_DATASET_FILE is not set
#              otherwise, as it is in deploy/
#   REVISION   the commit, for the image's label

FROM docker.io/library/python:3.12-slim-bookworm AS packages
COPY requirements.lock image/trim.sh /build/
# Wheels only: there is no compiler here, and what is not in the lock is not installed.
RUN python3 -m venv --without-pip /opt/python \
    && pip --python /opt/python/bin/python3 install --no-cache-dir --disable-pip-version-check --no-compile --no-deps \
        --only-binary=:all: --require-hashes -r /build/requirements.lock \
    && pip --python /opt/python/bin/python3 check \
    && sh /build/trim.sh /opt/python/bin/python3 /opt/python/lib/python3.12/site-packages

FROM packages AS program
ARG DATASET=
COPY backends /opt/latency-profile/backends
COPY latency_profile /opt/latency-profile/latency_profile
COPY benchmark_serving.py latency_throughput_curve.sh /opt/latency-profile/
COPY image/bytecode.py /build/
# COPY wants a source: where there is no data set, the lock stands in for it.
COPY ${DATASET:+datasets/}${DATASET:-requirements.lock} /datasets/
RUN rm -f /datasets/requirements.lock \
    && printf '%s\n' '#!/opt/python/bin/python3' 'import sys' 'from latency_profile.cli import main' 'sys.exit(main())' \
        >/opt/latency-profile/latency-profile \
    && chmod 755 /opt/latency-profile/latency-profile \
    && chmod -R a+rX /opt/latency-profile /datasets \
    && PYTHONDONTWRITEBYTECODE=1 PYTHONPYCACHEPREFIX=/opt/bytecode \
        /opt/python/bin/python3 /build/bytecode.py /opt/latency-profile

FROM docker.io/library/python:3.12-slim-bookworm
RUN install -d -o 10001 -g 0 -m 0775 /results
COPY --from=packages /opt/python /opt/python
COPY --from=program /datasets /datasets
COPY --from=program /opt/latency-profile /opt/latency-profile
COPY --from=program /opt/bytecode /opt/bytecode

# Everything that libraries keep goes to /tmp: any user may be told to run this, and none has a home.
ENV PATH=/opt/latency-profile:/opt/python/bin:$PATH \
    PYTHONPATH=/opt/latency-profile \
    PYTHONPYCACHEPREFIX=/opt/bytecode \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    XDG_CACHE_HOME=/tmp/.cache \
    HF_HOME=/tmp/huggingface \
    HF_HUB_DISABLE_TELEMETRY=1
ARG DATASET=
ENV PROMPT_DATASET_FILE=${DATASET:+/datasets/$DATASET}
ARG REVISION=unknown
LABEL org.opencontainers.image.title="inference-benchmark" \
    org.opencontainers.image.description="Latency profiles of LLM model servers" \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.base.name="docker.io/library/python:3.12-slim-bookworm"
VOLUME ["/results", "/tmp"]
WORKDIR /results
USER 10001:10001
# No entry point: a command given to `docker run` or in a manifest is itself process 1, and gets the signals.
CMD ["latency-profile", "demo", "--output-dir=/results"]
