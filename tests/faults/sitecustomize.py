"""Faults for runs in other processes: Python imports this module when PYTHONPATH names its folder.

Environment: FAULT_SLOW seconds per tile; FAULT_ABORT, FAULT_HANG parts of file names whose reading ends
or stops the process; FAULT_COUNT a file that gets a line for each tile that a predictor worked on.
"""

import os
import time

if any(name.startswith("FAULT_") for name in os.environ):
    import batchseg.photos.loading
    import batchseg.read
    import batchseg.stitch

    place, read_shard = batchseg.stitch.Stitcher.place, batchseg.read._read_shard
    decode = batchseg.photos.loading.decode

    def counted_place(self, tile, output, valid):
        time.sleep(float(os.environ.get("FAULT_SLOW", "0")))
        if path := os.environ.get("FAULT_COUNT"):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(descriptor, f"{tile.core.row_off} {tile.core.col_off}\n".encode())
            os.close(descriptor)
        place(self, tile, output, valid)

    def fail(name):
        if (part := os.environ.get("FAULT_ABORT")) and part in name:
            os.abort()
        while (part := os.environ.get("FAULT_HANG")) and part in name:
            time.sleep(1)

    def faulty_read_shard(dataset, *arguments):
        fail(dataset.name)
        return read_shard(dataset, *arguments)

    def faulty_decode(data, name):
        fail(name)
        return decode(data, name)

    batchseg.stitch.Stitcher.place = counted_place
    batchseg.read._read_shard = faulty_read_shard
    batchseg.photos.loading.decode = faulty_decode
