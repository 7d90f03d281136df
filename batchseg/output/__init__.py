"""What a run holds, publishes and records: mask fragments, COGs, region and item tables, the ledger.

Enters: predicted shards and photographs. Leaves: files below the output, and the records that say what is
done. A file is published before it is recorded; what no record names is not part of the output.
"""
