# Serves the toy data set at once: docker build -t crossmodal . && docker run --rm -p 45678:45678 crossmodal
# To serve your own index: docker run --rm -p 45678:45678 -v "$PWD/workspace:/app/workspace" crossmodal
FROM python:3.11.14-slim-bookworm

# The CPU build of torch takes a fifth of the room of the CUDA build, which is what the default index has.
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu

ENV PYTHONUNBUFFERED=1

# Numeric, so that an orchestrator can see that it is not root.
RUN useradd --create-home --uid 10001 search \
    && install --directory --owner=search --group=search /app/workspace
WORKDIR /app

# First the packages, which seldom change: a change of the code reuses this layer.
COPY requirements.txt constraints.txt ./
RUN pip install --no-cache-dir --extra-index-url "${TORCH_INDEX_URL}" -r requirements.txt

COPY . .

USER 10001
RUN ["python", "app.py", "-t", "index"]

# HTTP, and gRPC as the clients of jina speak it.
EXPOSE 45678 45679
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:45678/healthz', timeout=4)"]

# No shell in between: SIGTERM from `docker stop` reaches python, which ends its processes and exits.
CMD ["python", "app.py", "-t", "query_restful", "--host", "0.0.0.0"]
