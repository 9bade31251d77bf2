"""Benchmarks: ratios measured in one run against named references. ``python -m bench`` lists them."""
