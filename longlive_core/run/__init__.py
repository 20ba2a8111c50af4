"""A run from plan to film: loading a pipeline, estimates of time, memory and disk, identities of weights, reports."""
