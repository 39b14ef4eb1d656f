"""The simulator: anatomy (signed distances), probe (beam geometry), acoustics (image formation), scan, simulate
(cohorts).
"""
