"""The simulator, from the fetal head to its image.

- `shapes`: signed distances; `tissues`: their acoustics
- `anatomy`: the head; `scene`: what surrounds it
- `probe`: beams and machines; `acoustics`: image formation
- `scan`, `plane`: one image; `realism`: what the images are like
- `exports`: what happens to an image before it is read; `batch`: many scans
"""
