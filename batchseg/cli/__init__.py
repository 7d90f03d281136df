"""The command line: arguments, words, progress, exit codes.

Enters: argv. Leaves: lines on a terminal and an exit code. Only `main` prints and exits; nothing imports this
room.
"""
