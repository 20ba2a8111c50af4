"""From latents to frames to a file: video units, subtitles, metadata, sheets; and reading films, clips, pictures."""
