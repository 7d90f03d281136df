#!/usr/bin/env bash
# Run a job on a Ray cluster from any of its hosts: jobs/ray-submit.sh 10.0.0.1:6379 job.yaml
# The job file, inputs, model and output must have the same paths on every host (a shared folder).
# Every host needs the same batchseg, Python and Ray.
set -eu
exec batchseg run "${2:?job.yaml}" --ray-address "${1:?address of the Ray head, host:port}"
