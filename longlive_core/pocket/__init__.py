"""The pocket model: a LongLive of a few million parameters, trained on the toybox world; `docs/pocket.md`."""
