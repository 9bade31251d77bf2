"""The native API: everything under /v1, and the routes that machines watch."""
