"""Attacks on a running proxy; what each of them is after must not be had."""
