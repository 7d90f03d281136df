"""What people do with an output between runs: status, verify, summary, export, retry, prune.

Enters: an output's location. Leaves: values and files for people. It predicts nothing, and it asks no
source's pixels.
"""
