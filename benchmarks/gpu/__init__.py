"""What a user with a graphics card runs to report, and what proves this pack wherever one can be had: one command.

    python -m benchmarks.gpu --out FOLDER            everything
    python -m benchmarks.gpu --out FOLDER --part 1   the first half, then --part 2: each in under ten minutes
    python -m benchmarks.gpu --out FOLDER --tiny     tiny shapes, on any CPU: does the command itself work?

One file a step. Every step is a process of its own that is ended at its limit, writes what it finds to a JSON file as
it goes along, and never keeps the others from running. `docs/gpu.md` tells users how.
"""
