"""What ends TLS in front of an encoder: nginx, in the same pod, with one file of configuration."""

from __future__ import annotations

from crossmodal.export.plan import ENCODER_PORT, FOLDERS, TLS_PORT

__all__ = ["PROXY_FILE", "proxy_text"]

PROXY_FILE = "nginx.conf"

# A photo as the model sees it, for as many as one request has.
_LARGEST_BODY = "64m"


def proxy_text() -> str:
    """The configuration: HTTP/2 with TLS to the encoder on this pod's loopback.

    A connection ends after a minute, so that those of the server spread over encoders that came later.
    """
    tls, temporary = FOLDERS["tls"], FOLDERS["temporary"]
    paths = "\n".join(
        f"  {name}_temp_path {temporary}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""\
worker_processes 1;
pid {temporary}/nginx.pid;
error_log /dev/stderr warn;
events {{ worker_connections 256; }}
http {{
  access_log off;
{paths}
  client_max_body_size {_LARGEST_BODY};
  keepalive_time 60s;
  server {{
    listen {TLS_PORT} ssl;
    http2 on;
    ssl_certificate {tls}/tls.crt;
    ssl_certificate_key {tls}/tls.key;
    ssl_protocols TLSv1.2 TLSv1.3;
    location / {{
      grpc_pass grpc://127.0.0.1:{ENCODER_PORT};
      grpc_read_timeout 300s;
      grpc_send_timeout 300s;
    }}
  }}
}}
"""
