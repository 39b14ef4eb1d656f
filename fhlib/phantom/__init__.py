"""The simulator: anatomy (signed distances), probe (beam geometry), machines (their settings), acoustics (image formation), scan and
plane (one image), simulate (cohorts), edges and realism (what the images are like).
"""
