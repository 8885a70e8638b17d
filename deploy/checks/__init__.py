"""The checks behind `python -m deploy.check`; each returns its complaints, an empty list when all is well."""
