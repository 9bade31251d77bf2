"""What a browser shows: the page and Jina Box in a real Chromium, against a real server on real photos."""
