"""The tests: unit, conformance, fuzz, integration and clients; see the README of each folder that has one."""
