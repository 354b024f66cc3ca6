"""Suites that others wrote, run from their wheels against lossrs. They need the `parity` extra."""
