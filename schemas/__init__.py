"""The contracts: everything that crosses a process boundary, as Python models.

JSON Schema, AsyncAPI and the example files are generated from these models (`python -m schemas.generate`).
This package imports nothing of ours.
"""
