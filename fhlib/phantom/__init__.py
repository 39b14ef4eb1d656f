"""The simulator: anatomy (signed distances), probe (beam geometry), acoustics (image formation), scan and plane (one
image), simulate (cohorts), edges and realism (what the images are like).
"""
