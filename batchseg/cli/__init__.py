"""The command line: arguments, words, progress, exit codes.

Enters: argv. Leaves: lines on a terminal and an exit code. `main` prints and exits, `progress` draws the live
line, and `terminal` ends the process at a second signal. Only `__main__` imports this room.
"""
