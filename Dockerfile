# Serves the toy data set at once: docker build -t crossmodal . && docker run --rm -p 45678:45678 crossmodal
# To serve your own index: docker run --rm -p 45678:45678 -v "$PWD/workspace:/app/workspace" crossmodal
# The toy data set is public. Any other index needs a key: of the workspace (crossmodal keys add), of the variable
# CROSSMODAL_KEY (-e CROSSMODAL_KEY), or one that is made at the first start and printed once.
# With published models: docker build --build-arg REQUIREMENTS=requirements.txt -t crossmodal .
# With jina's gRPC on port 45679: docker build --target jina -t crossmodal:jina .


# The same with jina, which has packages for Python 3.11 at the latest.
FROM python:3.11.14-slim-bookworm AS jina

ENV PYTHONUNBUFFERED=1

RUN useradd --create-home --uid 10001 search \
    && install --directory --owner=search --group=search /app/workspace
WORKDIR /app

COPY requirements.lock ./
RUN pip install --no-cache-dir --require-hashes -r requirements.lock

COPY . .

USER 10001
RUN ["python", "app.py", "-t", "index", "--public"]
# An index is for its owner only; this one is public, and may run as somebody else (--user).
# hadolint ignore=DL3059
RUN chmod -R a+rX /app/workspace

# HTTP, and gRPC as the clients of jina speak it.
EXPOSE 45678 45679
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:45678/healthz', timeout=4)"]

CMD ["python", "app.py", "-t", "query_restful", "--host", "0.0.0.0", "--make-key", "--grpc-port", "45679"]


# The default.
FROM python:3.13.9-slim-bookworm AS serve

# What is locked has hashes, which pip then demands of everything. requirements.txt brings torch as well, whose
# builds share a version and no hash; the one for CPUs takes a fifth of the room of the CUDA build.
ARG REQUIREMENTS=requirements.lock
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu

ENV PYTHONUNBUFFERED=1

# Numeric, so that an orchestrator can see that it is not root.
RUN useradd --create-home --uid 10001 search \
    && install --directory --owner=search --group=search /app/workspace
WORKDIR /app

# First the packages, which seldom change: a change of the code reuses this layer.
COPY requirements.lock requirements*.txt constraints.txt ./
RUN pip install --no-cache-dir --extra-index-url "${TORCH_INDEX_URL}" -r "${REQUIREMENTS}"

COPY . .

USER 10001
RUN ["python", "app.py", "-t", "index", "--public"]
# An index is for its owner only; this one is public, and may run as somebody else (--user).
# hadolint ignore=DL3059
RUN chmod -R a+rX /app/workspace

EXPOSE 45678
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:45678/healthz', timeout=4)"]

# No shell in between: SIGTERM from `docker stop` reaches python, which ends its processes and exits.
CMD ["python", "app.py", "-t", "query_restful", "--host", "0.0.0.0", "--make-key"]
