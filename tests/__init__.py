"""Tests of event hooks."""
