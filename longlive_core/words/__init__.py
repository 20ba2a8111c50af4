"""Words for people: plurals, shortened and visible text, bytes and durations. Imports nothing of the package."""
