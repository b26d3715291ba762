"""The steps of jobs, one module for each kind."""
