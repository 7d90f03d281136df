"""Faults put into real runs: quick ones as tests, the campaign by `make faults`."""
