"""The notations of a timeline; each file reads one of them into segments.

| text | file |
|---|---|
| `0s A panda walks` | lines.py; the time in front of the prompt: heads.py |
| `[0s-5s: A panda walks] [5s-10s: It sits]` | brackets.py |
| `* A panda in snow` | anchor.py |
| `A panda walks | It sits` | lines.py |
| SRT, VTT, tables, CSV, code fences | documents.py, which leaves the lines in them |
| `{"prompts": ["A panda walks", "It sits"]}` | json_shapes.py, from the values that json_values.py reads |
| `[{"time": 0, "prompt": "A panda walks"}]` | objects.py |
| `{"0": "A panda walks", "16": "It sits"}` | schedules.py |
| `{"prompts": [{"startTime": 0, ...}]}` | scope.py |
"""
