"""What a run holds, publishes and records: mask fragments, COGs, region and item tables, the ledger.

Enters: predicted shards and photographs. Leaves: files below the output, and the records that say what is
done. It predicts nothing and reads no source. Masks and regions are published before they are recorded: one
that no record names does not count. `layout` says where all of it lies, `publish` writes. A row of the ledger
is one of three kinds in `record`; `columns` are the ledger's, those of regions are in `regions.rows`.
"""
