"""The two Flows as YAML, and everything that runs them."""
