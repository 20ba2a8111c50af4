"""A separate ComfyUI server and a client for it, for scripts, benchmarks and tests.

server: start and stop ComfyUI with this pack. client: queue a prompt and follow it. graphs: the shipped workflows in
API format, and short films made from one. models: the pocket model's files in ComfyUI's folders. mp4: decode a film.
"""
