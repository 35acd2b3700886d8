"""Puts this folder on the path (pytest does so for the folder of a conftest), so that all tests can import `effort`."""
