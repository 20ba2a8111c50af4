"""Errors of a queued prompt, reported before anything runs.

graph: the queued prompt as a graph. widget_values: bounds of one node's widgets. queued: validate one node of the
prompt. film: validate a Prompt Timeline and a Stream Sampler together with the nodes around them.
"""
