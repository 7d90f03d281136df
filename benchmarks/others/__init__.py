"""What batchseg is compared with; each runs by its path, some in other interpreters."""
