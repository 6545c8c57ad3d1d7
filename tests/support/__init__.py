"""Simulators, servers and fixtures of the tests; not part of the product."""
