"""The checks behind `python -m deploy.check`; each returns its complaints as sentences, an empty list when all is well."""
