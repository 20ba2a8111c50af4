"""A run from plan to film: `FilmRun`, the pipeline, estimates, identities of weights, reports, `check`, `replay`."""
