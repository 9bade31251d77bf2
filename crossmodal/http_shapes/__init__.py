"""Request bodies in, answers out: plain JSON values, no web framework.

``v1`` is the native API, ``legacy`` what clients of jina 1, 2, 3 and Jina Box speak. No URL is fetched and no
path is opened anywhere below: a photo's bytes come with the request, or were fetched from its URL before, or
it is named by its id.
"""
