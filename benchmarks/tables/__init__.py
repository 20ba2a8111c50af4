"""The paper's tables, in small, measured on the pocket model: `python -m benchmarks.tables NAME`."""
