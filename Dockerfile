# Serves the toy data set at once: docker build -t crossmodal . && docker run --rm -p 45678:45678 crossmodal
# To serve your own index: docker run --rm -p 45678:45678 -v "$PWD/workspace:/app/workspace" crossmodal
# The toy data set is public. Any other index needs a key: of the workspace (crossmodal keys add), of the variable
# CROSSMODAL_KEY (-e CROSSMODAL_KEY), or one that is made at the first start and printed once.
# With published models, and jina's pods and gRPC:
# docker build --build-arg EXTRAS=jina,clip -t crossmodal:jina .


# Python 3.11, as jina has no packages for later ones.
FROM python:3.11.14-slim-bookworm AS build

# Names of requirements-NAME.txt with commas between. What is locked has hashes; torch, whose builds share a
# version, has none, and the one for CPUs takes a fifth of the room of the CUDA build.
ARG EXTRAS=""
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu

WORKDIR /build
# Without the code, which changes more often: its changes reuse this layer.
COPY requirements*.lock requirements*.txt constraints.txt ./
RUN python -m venv --without-pip /opt/venv \
    && case ",${EXTRAS}," in *,jina,*) lock=requirements.lock ;; *) lock=requirements-base.lock ;; esac \
    && pip --python /opt/venv install --no-cache-dir --require-hashes -r "${lock}" \
    && IFS=, \
    && for extra in ${EXTRAS}; do \
        pip --python /opt/venv install --no-cache-dir --extra-index-url "${TORCH_INDEX_URL}" \
            -r "requirements-${extra}.txt" || exit 1; \
    done


FROM python:3.11.14-slim-bookworm

ENV PATH="/opt/venv/bin:${PATH}" PYTHONUNBUFFERED=1

# Numeric, so that an orchestrator can see that it is not root.
RUN useradd --create-home --uid 10001 search \
    && install --directory --owner=search --group=search /app/workspace
WORKDIR /app

COPY --from=build /opt/venv /opt/venv
COPY . .

USER 10001
# An index is for its owner only; this one is public, and may run as somebody else (--user). What was compiled for
# the processor that builds this is of no use elsewhere.
RUN python app.py -t index --public \
    && chmod -R a+rX /app/workspace \
    && rm -rf /home/search/.cache/*

EXPOSE 45678
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:45678/healthz', timeout=4)"]

# No shell in between: SIGTERM from `docker stop` reaches python, which ends its processes and exits.
CMD ["python", "app.py", "-t", "query_restful", "--host", "0.0.0.0", "--make-key"]
