"""From latents to frames to a film's file: video, subtitles, tags, sheets; and reading films, clips, pictures."""
