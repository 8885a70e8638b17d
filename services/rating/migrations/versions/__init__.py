"""One file per revision: expand first, contract a version later, so that two versions of the service can run."""
