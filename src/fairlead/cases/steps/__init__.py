"""The steps of the pipeline: each finds what an interrupted execution of it left, and goes on from there."""
