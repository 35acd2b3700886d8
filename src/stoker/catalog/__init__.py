"""Dated facts, shipped with the package: EC2 types and prices, CRD schemas, triggers of KEDA; their readers.

Each data file lies in `catalog/data` beside a SOURCES.md that says where it comes from and of which day it is.
"""
