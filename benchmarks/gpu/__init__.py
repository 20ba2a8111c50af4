"""Test and measure the pack on a graphics card, with one command, and write what a report needs.

    python -m benchmarks.gpu --out FOLDER            everything
    python -m benchmarks.gpu --out FOLDER --part 1   the first half, then --part 2: each in under ten minutes
    python -m benchmarks.gpu --out FOLDER --tiny     tiny shapes on any CPU, to try the command itself

One file a step. Every step is a process of its own. It is ended at its time limit, writes its results to a JSON file
while it runs, and does not prevent the others if it fails. The guide for users is `docs/gpu.md`.
"""
