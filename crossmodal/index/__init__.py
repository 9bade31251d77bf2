"""What an index is to the rest of the library: two protocols, and the backend that serves them.

``embedded`` keeps everything in one file of the workspace folder. Another backend is a folder beside it.
"""
