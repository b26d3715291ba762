"""Answering questions about a customer's AWS account, screening it and reporting on it."""
