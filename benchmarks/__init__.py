"""`python -m benchmarks`: batchseg beside the bare predictor, the bare disk, and what people use."""
