"""Draw README's picture: `python fhlib/docs/example.py` writes `data/weights/example.png`.

Five simulated subjects that no cohort holds are outlined by the shipped weights. The one in the middle by DSC is drawn.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from scipy import ndimage

from fhlib import Segmentation, Volume, evaluate, load_segmentor, simulate_scan
from fhlib.figures.planes import Panel, contour_legend, grey_window, scale_bar
from fhlib.figures.sagittal import PLANE_MM, HeadAxes, plane_at
from fhlib.figures.style import PAGE, SMALL, new_figure
from fhlib.figures.surfaces import DISTANCE_MAP, common_limit, draw_surface, surface_distance
from fhlib.files import DATA, atomic_path
from fhlib.images.volume import Floats
from fhlib.phantom.scan import Scan

SEEDS = range(990101, 990106)
AGE_WEEKS, SPACING_MM = 26, 0.8
SHOWN_MM = 1.6
"""Size of the surface's triangles. Finer ones would show the staircase of the network's grid."""


def main() -> None:
    """Simulate, segment, choose and draw."""
    segmentor = load_segmentor("head")
    scans = [simulate_scan(seed, ga_weeks=AGE_WEEKS, spacing_mm=SPACING_MM) for seed in SEEDS]
    found = [segmentor.segment(scan.image) for scan in scans]
    dsc = [score(*pair) for pair in zip(scans, found, strict=True)]
    chosen = int(np.argsort(dsc)[len(dsc) // 2])

    counted = f"DSC {100 * dsc[chosen]:.0f} %, the middle of n = {len(dsc)}"
    title = f"Simulated scan, {AGE_WEEKS} weeks, by the shipped weights: {counted}"
    figure = head_beside_plane(scans[chosen].image, scans[chosen].label, found[chosen].mask, title)
    with atomic_path(DATA / "weights" / "example.png") as path:
        figure.savefig(path, bbox_inches="tight", dpi=150, metadata={"Software": None})
    print(", ".join(f"{100 * value:.1f}" for value in dsc))


def score(scan: Scan, found: Segmentation) -> float:
    """Overlap of a mask with the truth."""
    return evaluate(found.mask.array > 0, scan.label.array > 0, scan.label.spacing_mm).dsc


def head_beside_plane(image: Volume, reference: Volume, prediction: Volume, title: str) -> Figure:
    """A head's median plane with both outlines, beside the predicted surface coloured by its error: face left, vertex up."""
    surface = surface_distance(prediction, reference, image.spacing_mm, SHOWN_MM)
    assert surface.axes is not None, "the true mask does not tell where the face is: choose other seeds"
    middle = (surface.true_mm.max(axis=0) + surface.true_mm.min(axis=0)) / 2
    reach = 0.6 * float(np.ptp(np.concatenate([surface.true_mm, surface.vertices_mm]), axis=0).max())
    figure, axes = new_figure(1, 2, (PAGE, 4.6), title)
    plane, solid = axes[0]

    draw_plane(plane, (image, reference, prediction), middle, surface.axes, reach)
    norm = Normalize(0, common_limit({"": surface}))
    draw_surface(solid, surface, -surface.axes.forward, surface.axes.up, norm, reach)
    high = solid.get_ylim()[1]
    solid.set(ylim=(high - 2 * reach, high))  # the plane's scale
    solid.set_axis_off()
    solid.set_title("the outlined head in 3D, from its left", fontsize=SMALL)
    bar = figure.colorbar(ScalarMappable(norm, DISTANCE_MAP), ax=solid, shrink=0.7, aspect=18, extend="max")
    bar.set_label("distance to the truth [mm]", fontsize=SMALL)
    contour_legend(figure, ["truth", "network"])
    return figure


def draw_plane(axis: Axes, volumes: tuple[Volume, ...], middle: Floats, lies: HeadAxes, reach: float) -> None:
    """The median plane of image, true mask and found mask. Outlines are smoothed by a voxel, so that no staircase is drawn."""
    spacing_mm = volumes[0].spacing_mm
    slices = [plane_at(volume, spacing_mm, middle, -lies.forward, lies.up, reach) for volume in volumes]
    soft = [ndimage.gaussian_filter(mask, max(spacing_mm) / PLANE_MM) for mask in slices[1:]]
    panel = Panel(Volume(slices[0], (PLANE_MM, PLANE_MM)), masks=soft)
    panel.draw(axis, None, grey_window(volumes[0].array), linewidth=1.8)
    scale_bar(axis)
    axis.set_title("median plane of the scan", fontsize=SMALL)


if __name__ == "__main__":
    main()
