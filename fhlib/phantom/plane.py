"""One simulated 2D image of the head's standard plane, as sonographers freeze it to measure the head's circumference.

The scene and the image formation are those of the 3D scans (`fhlib.phantom.scan`), with a curved array in
place of the mechanical one. A few planes lie beside each other; the middle one is shown after the blur in
elevation.

What varies between machines and sonographers is drawn widely: age, tilt, zoom, frequency, resolution, gain,
dynamic range, tone curve, echogenicities, what the screen blacks out. The ranges are unconfirmed general
knowledge. They are set so that grey levels and grain (`fhlib.phantom.realism`) have about the medians of
every seventh image of HC18; no network saw a real image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fhlib.images.volume import Volume
from fhlib.phantom.acoustics import form_image
from fhlib.phantom.anatomy import Head, Subject, draw_subject
from fhlib.phantom.probe import BeamGrid, Box, Probe, Site, drawn_machine, scan_convert
from fhlib.phantom.scan import acquire, rotation
from fhlib.phantom.scene import Pose, Scene

SHAPE = (540, 800)
PLANES = 7
WIDEST_SHARE = 0.72


@dataclass(frozen=True)
class Plane:
    """A simulated image (uint8) with the filled section of the outer skull as its label; 2D volumes of one geometry."""

    image: Volume
    label: Volume
    subject: Subject


def simulate_plane(
    subject_seed: int, ga_weeks: float | None = None, pixel_mm: float | None = None, shape: tuple[int, int] = SHAPE
) -> Plane:
    """Simulate the transthalamic plane of a subject.

    The plane is tilted by some degrees and lies up to a tenth of the OFD beside the standard plane.

    Args:
        subject_seed: whose head it is.
        ga_weeks: gestational age, 12 to 40. If None it follows the scans of routine care: a quarter at 12-15
            weeks, 45 % around 20, the rest at 20-40.
        pixel_mm: edge of a pixel. If None the zoom is drawn so that the skull takes between a fifth and 0.72
            of the image's width.
        shape: pixels (rows, columns).

    Raises ValueError for an age outside 12-40 weeks.
    """
    rng = np.random.default_rng([int(subject_seed), 401])
    subject = draw_subject(subject_seed, _age(rng) if ga_weeks is None else ga_weeks)
    head = Head(subject)
    share = float(np.clip(rng.normal(0.5, 0.12), 0.2, WIDEST_SHARE))
    pixel = pixel_mm or subject.ofd_mm / (share * shape[1])
    radius = float(rng.uniform(38, 62))
    site = drawn_machine(rng, Probe(radius, radius, float(rng.uniform(58, 82)), 1.0), subject.ofd_mm)
    site = replace(site, elevation_aperture_mm=0.0)  # the few planes beside the middle one do not hold a wider beam

    standoff = float(rng.uniform(15, 45) + 0.15 * subject.ofd_mm)
    pose = _pose(head, site, standoff, rng)
    middle = pose.to_probe(np.zeros((1, 3)))[0]
    height, width = shape[0] * pixel, shape[1] * pixel
    left = float(middle[0] - width * rng.uniform(0.40, 0.60))
    top = float(middle[2] - height * rng.uniform(0.38, 0.60))
    box = Box((shape[0], 1, shape[1]), pixel, (left, 0.0, top))
    deepest = float((top + height - radius) * rng.uniform(0.92, 1.25))
    grid = _grid(site, standoff + subject.bpd_mm / 2, max(deepest, standoff + subject.ofd_mm))

    scene = Scene(head, pose, pose.to_probe(head.surface()), rng)
    half_mm = max(abs(left), abs(left + width)), 1e3
    beams = acquire(scene, site, grid, half_mm, rng, threads=1, gain_spread_db=3.0)
    image = _screen(scan_convert(form_image(beams, rng), grid, box)[:, 0], rng)
    h = pose.to_head(box.points(tuple(slice(0, count) for count in box.shape)))
    label = (head.skull(h) <= 0)[:, 0].astype(np.uint8)
    return Plane(Volume(image, (pixel, pixel)), Volume(label, (pixel, pixel)), subject)


def _age(rng: np.random.Generator) -> float:
    scan = rng.uniform()
    if scan < 0.25:
        return float(rng.uniform(12, 15))
    if scan < 0.7:
        return float(np.clip(rng.normal(20, 2.5), 14, 30))
    return float(rng.uniform(20, 40))


def _pose(head: Head, site: Site, standoff: float, rng: np.random.Generator) -> Pose:
    """The head's x-y plane in the image plane, most often seen from the side, tilted and displaced a little."""
    turn = rng.choice([0, np.pi])
    turn = float(turn + (rng.normal(0, 0.35) if rng.uniform() < 0.85 else rng.uniform(-1.6, 1.6)))
    depth, lateral = np.array([np.cos(turn), np.sin(turn), 0]), np.array([-np.sin(turn), np.cos(turn), 0])
    lateral *= rng.choice([-1, 1])
    axes = np.stack([lateral, np.cross(depth, lateral), depth])
    turned = (rotation(rng.normal(0, np.radians([6, 6, 1]))) @ axes).T

    beside = np.array([0, 0, float(np.clip(rng.normal(0.02, 0.035), -0.06, 0.10)) * head.o])
    nearest = float((head.surface(400) @ turned)[:, 2].min())
    shown = np.array([rng.normal(0, 0.12 * head.o), 0, site.probe.probe_radius_mm + standoff - nearest])
    shown[1] = -float(beside @ turned[:, 1])
    return Pose(turned, shown, standoff)


def _grid(site: Site, focus_mm: float, depth_mm: float) -> BeamGrid:
    """Beams fine enough for the point spread at the head's depth, and planes out to where its elevation profile ends."""
    radius = site.probe.probe_radius_mm + focus_mm
    half = 1.15 * max(site.elevation_share * focus_mm, site.elevation_floor_mm) / radius
    lateral = max(site.lateral_share * focus_mm, site.lateral_floor_mm) / radius
    grid = BeamGrid.build(site.probe, depth_mm, float(np.clip(0.45 * site.axial_mm, 0.12, 0.4)), 0.45 * lateral, 1.0)
    return replace(grid, phi=np.linspace(-half, half, PLANES, dtype=np.float32))


def _screen(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The tone curve, a grey bar at the left edge, and captions blacked out, as in images released from clinics."""
    grey = 255 * (image / np.float32(255)) ** np.float32(rng.uniform(0.9, 1.8))
    rows, columns = image.shape
    if rng.uniform() < 0.8:
        top, bottom = int(0.06 * rows), int(0.45 * rows)
        grey[top:bottom, : max(1, columns // 100)] = np.linspace(255, 0, bottom - top)[:, None]
    if rng.uniform() < 0.8:
        height, width = int(rows * rng.uniform(0.10, 0.32)), int(columns * rng.uniform(0.10, 0.32))
        grey[-height:, -width:] = 0
    return np.rint(grey).astype(np.uint8)
