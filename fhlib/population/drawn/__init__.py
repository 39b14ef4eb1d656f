"""Subjects by protocol: heads, visits, errors of measurement, and their scans."""
