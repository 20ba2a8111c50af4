"""Text for users: plurals, shortened and visible text, sizes, durations. Imports nothing of the package."""
