"""What people do with an output between runs: status, verify, summary, export, retry, prune.

Enters: an output's location. Leaves: values and files for people. It predicts nothing. Only `sheet` decodes
sources, the photographs that it shows; only `maintain` (retry, prune) changes the output. A command is a
module here, and a parser and words in `cli`.
"""
