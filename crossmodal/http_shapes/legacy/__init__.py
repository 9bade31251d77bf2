"""Requests of jina 1, 2, 3 and Jina Box in, and out the envelopes that these clients read.

::

    body = read_json(raw)
    request = parse_request(body, path="/search", host="127.0.0.1:45678")
    answer = render_results(request, queries, started=started, ended=ended)

The envelope is chosen by the request's shape:

1. ``mode`` and ``parameters``: Jina Box, whose versions read ``search.docs`` or ``data.docs``: both are sent;
2. ``mode``, a top-level ``top_k`` or a path under ``/api/``: jina 1;
3. ``targetPeapod``, ``request_id`` beside ``exec_endpoint``, or a plain string in ``data``: jina 2;
4. anything else: jina 3.
"""
