"""A run from plan to film: `FilmRun`, loading a pipeline, estimates, identities of weights, reports, `check`, `replay`."""
