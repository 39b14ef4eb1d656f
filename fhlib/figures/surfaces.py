"""Distance from a segmentation's surface to the reference's, drawn on the surface (Fig. 4 and 5)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import plotly.graph_objects as go
import plotly.io
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage, spatial
from skimage import measure

from fhlib.figures.sagittal import HeadAxes, head_axes
from fhlib.figures.style import PAGE, PALETTE, REFERENCE_COLOUR, SMALL, Look, new_figure
from fhlib.images.volume import Array, Floats, Mask, Volume

DISTANCE_MAP = "YlOrRd"
PRINTED_FACES = 10_000
MARGIN = 3
"""Voxels around a mask, so that its surface closes."""
GHOST_MM = 1.5
"""How finely the true head's silhouette is drawn, where its points lie close enough."""
BELOW: Look = {"ha": "center", "va": "top", "fontsize": SMALL}
Summary = tuple[float, float, float]
"""Minimum, mean and maximum."""

# JupyterLab and the report draw plotly's JSON; plotly's default adds its whole library (5 MB) to every notebook.
plotly.io.renderers.default = "plotly_mimetype"


@dataclass(frozen=True)
class Surface:
    """A triangle mesh with a distance at each vertex."""

    vertices_mm: NDArray[np.float32]
    """(n, 3) in array order (d, h, w), from the array's corner."""
    faces: NDArray[np.int32]
    """(m, 3) vertex numbers."""
    distance_mm: NDArray[np.float32]
    """(n,) to the reference surface, unsigned."""
    true_mm: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 3), np.float32))
    """(k, 3) vertices of the reference surface, as `vertices_mm`."""
    axes: HeadAxes | None = None
    """How the reference head lies; None where its shape does not tell."""

    def summary(self) -> Summary:
        """Minimum, mean and maximum of the distance over vertices, in mm."""
        return float(self.distance_mm.min()), float(self.distance_mm.mean()), float(self.distance_mm.max())


def surface_distance(
    prediction: Volume | Array, reference: Volume | Array, spacing_mm: Sequence[float], resolution_mm: float = 1.0
) -> Surface:
    """A mask's surface with the distance of each vertex to the surface of another.

    For pictures: both masks are averaged to the resolution and slightly smoothed before marching cubes, so that no voxel
    staircase is drawn. The tables' distances come from `fhlib.measures.metrics`, on the voxels.

    Args:
        prediction: the mask whose surface it is.
        reference: the other one.
        spacing_mm: one number an array axis.
        resolution_mm: about the size of a triangle.

    Raises:
        ValueError: the masks differ in shape, are 2D, or one is empty.
    """
    found, true = (np.asarray(getattr(mask, "array", mask)) > 0 for mask in (prediction, reference))
    if found.shape != true.shape or found.ndim != 3:
        raise ValueError(f"surfaces need two 3D masks of one shape, got {found.shape} and {true.shape}")
    if not (found.any() and true.any()):
        raise ValueError(
            "a surface needs a mask that is not empty: "
            "leave missed cases out of surface maps and name them beside the figure"
        )
    box = ndimage.find_objects((found | true).astype(np.uint8))[0]
    corner = np.array([part.start * step for part, step in zip(box, spacing_mm, strict=True)])
    factors = tuple(max(1, round(resolution_mm / step)) for step in spacing_mm)
    vertices, faces = _mesh(found[box], factors, spacing_mm)
    true_vertices, true_faces = _mesh(true[box], factors, spacing_mm)

    gap, nearest = spatial.cKDTree(true_vertices).query(vertices)
    # The distance to the tangent plane at the nearest vertex is free of the error of the vertices' own spacing. Where
    # the vertex is not the foot of the perpendicular, the distance to it stands.
    normals = _normals(true_vertices, true_faces)[nearest]
    along = np.abs(np.einsum("ij,ij->i", vertices - true_vertices[nearest], normals))
    across = np.sqrt(np.maximum(gap**2 - along**2, 0))
    distance = np.where(across <= 1.5 * resolution_mm, along, gap)
    shifted = [(points + corner).astype(np.float32) for points in (vertices, true_vertices)]
    axes = _axes(true[box], factors, spacing_mm)
    return Surface(shifted[0], faces.astype(np.int32), distance.astype(np.float32), shifted[1], axes)


def _axes(mask: Mask, factors: tuple[int, ...], spacing_mm: Sequence[float]) -> HeadAxes | None:
    """How the head lies, from its mask averaged to the picture's resolution."""
    coarse = measure.block_reduce(mask.astype(np.float32), factors, np.mean) >= 0.5
    return head_axes(coarse, [n * step for n, step in zip(factors, spacing_mm)]) if coarse.any() else None


def _mesh(mask: Mask, factors: tuple[int, ...], spacing_mm: Sequence[float]) -> tuple[Array, Array]:
    """Vertices (mm from the mask's corner) and faces of a smoothed mask."""
    coarse = measure.block_reduce(mask.astype(np.float32), factors, np.mean)
    step_mm = np.multiply(factors, spacing_mm)
    padded = ndimage.gaussian_filter(np.pad(coarse, MARGIN), 1.0)
    level = min(0.5, 0.5 * float(padded.max()))  # of a mask of few voxels no mean reaches a half
    vertices, faces, *_ = measure.marching_cubes(padded, level, spacing=tuple(step_mm))
    return vertices - (MARGIN - 0.5) * step_mm, faces


def _normals(vertices: Array, faces: Array) -> Array:
    """Unit vertex normals in mm: those of scikit-image are in voxels, wrong where voxels are not cubes."""
    normals = np.zeros_like(vertices)
    of_faces = _face_normals(vertices[faces])
    for corner in range(3):
        np.add.at(normals, faces[:, corner], of_faces)
    return _unit(normals)


def _face_normals(triangles: Array) -> Array:
    """Normals of triangles (m, corner, axis), as long as twice their area."""
    return np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])


def _unit(vectors: Array) -> Array:
    return vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-12)


def surface_distance_map(
    surfaces: Mapping[str, Surface], columns: int = 5, limit_mm: float | None = None, title: str | None = None
) -> Figure:
    """Fig. 4 and 5: surfaces in two standard views, coloured by distance on one scale, the true head's outline around them.

    The first row looks at the left side of the head, the face to the left; the second at the face. Where the true mask does
    not tell the face (`fhlib.figures.sagittal.head_axes`), depth points down, and the panels say so. All have one scale in mm.

    Args:
        surfaces: by their titles.
        columns: at most so many surfaces a row.
        limit_mm: the colours' upper end; by default the largest 99th percentile of all surfaces.
        title: above the figure, with the number of surfaces.

    Raises:
        ValueError: there is no surface.
    """
    if not surfaces:
        raise ValueError("surface_distance_map needs at least one surface")
    columns = min(columns, len(surfaces))
    rows = math.ceil(len(surfaces) / columns)
    cell = min(2.0, PAGE / columns)
    figure, axes = new_figure(2 * rows, columns, (cell * columns, (2.1 * cell + 0.8) * rows + 0.9), title)
    norm = Normalize(0, limit_mm or common_limit(surfaces))
    clouds = [
        points for surface in surfaces.values() for points in (surface.vertices_mm, surface.true_mm) if len(points)
    ]
    reach = 0.56 * max(float(np.ptp(points, axis=0).max()) for points in clouds)
    for axis in axes.flat:
        axis.set_axis_off()
    for number, (name, surface) in enumerate(surfaces.items()):
        row, column = divmod(number, columns)
        side, front = axes[2 * row : 2 * row + 2, column]
        _draw_views(side, front, surface, norm, reach)
        side.set_title(name.replace(": ", "\n"), fontsize=SMALL)
        _, mean, most = surface.summary()
        front.text(0.5, 0.0, f"mean {mean:.1f}\nmax {most:.1f} mm", transform=front.transAxes, **BELOW)

    _millimetres(axes[0, 0], reach)
    beyond = any(surface.summary()[2] > (norm.vmax or 0) for surface in surfaces.values())
    shape: Look = {"orientation": "horizontal", "shrink": 0.6, "aspect": 30, "extend": "max" if beyond else "neither"}
    bar = figure.colorbar(ScalarMappable(norm, DISTANCE_MAP), ax=list(axes.flat), pad=0.02, **shape)
    bar.set_label("distance to the true surface [mm]; blue: outline of the true head", fontsize=SMALL)
    counted = f"{len(surfaces)} surface{'s' if len(surfaces) > 1 else ''}"
    figure.suptitle(f"{title}: {counted}" if title else counted, fontsize=10.5, y=1.06)
    return figure


def _draw_views(side: Axes, front: Axes, surface: Surface, norm: Normalize, reach: float) -> None:
    """A surface from its left, face to the left, and from its face."""
    known = surface.axes is not None
    forward, up = (surface.axes.forward, surface.axes.up) if surface.axes else (np.eye(3)[2], -np.eye(3)[0])
    drawn = decimate(surface, PRINTED_FACES)
    draw_surface(side, drawn, -forward, up, norm, reach)
    # from (d, h, w) to (x, y, z) and back, since a cross product turns with the order of the axes
    left = np.cross(-forward[::-1], up[::-1])[::-1]
    draw_surface(front, drawn, left, up, norm, reach)
    words = ("◄ face", "from the front") if known else ("depth down", "depth down")
    for axis, word in zip((side, front), words, strict=True):
        axis.text(0.5, 0.02, word, transform=axis.transAxes, ha="center", fontsize=SMALL)


def draw_surface(axis: Axes, surface: Surface, right: Floats, up: Floats, norm: Normalize, reach: float) -> None:
    """Draw a lit surface and the outline of the true one as they look with `right` and `up` (d, h, w) on the paper.

    Far triangles are drawn first. The reach is from the middle to each side, in mm.
    """
    x, y = right[::-1], up[::-1]
    screen = np.array([x, y, np.cross(x, y)])  # rows: to the right, up, to the viewer
    points, truth = surface.vertices_mm[:, ::-1] @ screen.T, surface.true_mm[:, ::-1] @ screen.T
    triangles = points[surface.faces]
    order = np.argsort(triangles[:, :, 2].mean(axis=1))
    colours = colormaps[DISTANCE_MAP](norm(surface.distance_mm[surface.faces].mean(axis=1)))
    colours[:, :3] *= _shade(triangles, points.mean(axis=0))[:, None]
    shown = colours[order]
    flat: Look = {"facecolors": shown, "edgecolors": shown, "linewidths": 0.4, "rasterized": True}
    axis.add_collection(PolyCollection(triangles[order, :, :2], zorder=2, **flat))
    if len(truth):
        _ghost(axis, truth[:, :2])

    both = np.concatenate([points, truth])[:, :2]
    x_middle, y_middle = (both.max(axis=0) + both.min(axis=0)) / 2
    axis.set(
        xlim=(x_middle - reach, x_middle + reach), ylim=(y_middle - 1.25 * reach, y_middle + reach), aspect="equal"
    )
    axis.grid(False)


def _ghost(axis: Axes, points: Floats) -> None:
    """The silhouette of a dense cloud of points: pale behind the surface, its outline before it."""
    pixel = max(GHOST_MM, 2 * float(np.median(spatial.cKDTree(points).query(points, k=2)[0][:, 1])))
    low = points.min(axis=0) - 4 * pixel
    shape = np.ceil((points.max(axis=0) + 4 * pixel - low) / pixel).astype(int)
    hit = np.zeros(shape, bool)
    hit[tuple(((points - low) / pixel).astype(int).T)] = True
    filled = ndimage.binary_fill_holes(ndimage.binary_closing(hit, iterations=2))
    soft = ndimage.gaussian_filter(filled.astype(float), 1.0).T
    x, y = (low[k] + (np.arange(shape[k]) + 0.5) * pixel for k in (0, 1))
    axis.contourf(x, y, soft, levels=[0.5, 2], colors=[REFERENCE_COLOUR], alpha=0.25, zorder=1)
    axis.contour(x, y, soft, levels=[0.5], colors=[PALETTE[0]], linewidths=1.2, zorder=3)


def _millimetres(axis: Axes, reach: float) -> None:
    """A bar of 10 to 50 mm in the upper left corner."""
    length = next((value for value in (50, 20) if value < 0.6 * reach), 10)
    left, top = axis.get_xlim()[0], axis.get_ylim()[1]
    axis.plot([left, left + length], [top] * 2, color="black", linewidth=2, clip_on=False, solid_capstyle="butt")
    axis.text(left, top - 0.04 * reach, f"{length} mm", fontsize=SMALL, va="top")


def _shade(triangles: Array, centre: Floats) -> Floats:
    """Brightness (m,) of triangles (right, up, to the viewer) in a light from above and beside the viewer."""
    light = _unit(np.array([-0.6, 0.7, 1.0]))
    normals = _unit(_face_normals(triangles))
    # marching cubes does not say which way its triangles turn: most normals of a head point away from its centre
    outward = np.sign(np.einsum("ij,ij->i", normals, triangles.mean(axis=1) - centre).sum()) or 1.0
    return 0.65 + 0.35 * np.clip(outward * normals @ light, 0, 1)


def interactive_surfaces(
    surfaces: Mapping[str, Surface], limit_mm: float | None = None, faces: int = 9000
) -> go.Figure:
    """Surfaces that turn in the browser (plotly), one at a time by name, on one common scale.

    The scale is marked with each surface's min, mean and max: those of the whole surface, which is then decimated.

    Args:
        surfaces: by their names.
        limit_mm: the scale's upper end; by default the largest 99th percentile of all surfaces.
        faces: at most about so many triangles are kept of each; 9000 take some 200 kB.

    Raises:
        ValueError: there is no surface.
    """
    if not surfaces:
        raise ValueError("interactive_surfaces needs at least one surface")
    limit = limit_mm or common_limit(surfaces)
    meshes, buttons = [], []
    for number, (name, surface) in enumerate(surfaces.items()):
        bar = _marked_bar(surface.summary(), limit)
        mesh = _plotly_mesh(decimate(surface, faces))
        meshes.append(mesh.update(name=name, visible=number == 0, cmin=0, cmax=limit, colorbar=bar))
        shown = [other == number for other in range(len(surfaces))]
        buttons.append({"label": name, "method": "restyle", "args": [{"visible": shown}]})
    figure = go.Figure(meshes)
    figure.update_scenes(aspectmode="data", camera_eye={"x": 1.15, "y": -1.3, "z": 0.4})
    figure.update_scenes(xaxis_visible=False, yaxis_visible=False, zaxis_visible=False)
    figure.update_layout(height=480, margin={"l": 0, "r": 0, "t": 50, "b": 0}, template="none")
    if len(buttons) > 1:
        place = {"x": 0, "xanchor": "left", "y": 1.08, "yanchor": "bottom"}
        figure.update_layout(updatemenus=[{"type": "buttons", "direction": "right", "buttons": buttons, **place}])
    return figure


def _plotly_mesh(surface: Surface) -> go.Mesh3d:
    """Depth (d) points down by a half turn: no mirror image. Hundredths of a mm are enough to look at."""
    d, h, w = surface.vertices_mm.T.round(2)
    i, j, k = surface.faces.T
    return go.Mesh3d(
        **{"x": w, "y": -h, "z": -d, "i": i, "j": j, "k": k},
        intensity=surface.distance_mm.round(2),
        colorscale=DISTANCE_MAP,
        lighting={"ambient": 0.75, "diffuse": 0.4, "specular": 0.05},
        hovertemplate="%{intensity:.2f} mm<extra></extra>",
    )


def _marked_bar(summary: Summary, limit: float) -> Look:
    """A colour bar with the surface's min, mean and max in place of ticks; a max beyond the scale stands at its end and says so."""
    low, mean, high = summary
    marks = {min(mean, limit): f"mean {mean:.2f}", min(low, limit): f"min {low:.2f}"}
    if high > limit:
        marks[limit] = f"max {high:.2f}<br>(bar ends at {limit:.3g})"
    else:
        marks[high] = f"max {high:.2f}"
        if limit - high > 0.08 * limit:
            marks[limit] = f"{limit:.3g}"
    title = {"text": "distance [mm]<br> <br> ", "side": "top"}
    return {"title": title, "thickness": 16, "len": 0.8, "tickvals": list(marks), "ticktext": list(marks.values())}


def common_limit(surfaces: Mapping[str, Surface]) -> float:
    """The largest 99th percentile of all surfaces' distances in mm, so that a few far points do not bleach the rest."""
    return max(float(np.percentile(surface.distance_mm, 99)) for surface in surfaces.values()) or 1.0


def decimate(surface: Surface, faces: int) -> Surface:
    """Merge vertices within cells of a grid, coarse enough that at most about `faces` triangles stay.

    Distances are averaged.
    """
    if len(surface.faces) <= faces:
        return surface
    area = float(np.linalg.norm(_face_normals(surface.vertices_mm[surface.faces]), axis=1).sum() / 2)
    cell = math.sqrt(2 * area / faces)
    _, owner = np.unique(np.floor(surface.vertices_mm / cell).astype(np.int64), axis=0, return_inverse=True)
    owner = owner.ravel()
    count = np.bincount(owner)
    vertices = np.column_stack([np.bincount(owner, weights=column) / count for column in surface.vertices_mm.T])
    distance = np.bincount(owner, weights=surface.distance_mm) / count
    # a triangle stays where its three corners lie in three cells
    a, b, c = owner[surface.faces].T
    kept = owner[surface.faces][(a != b) & (b != c) & (a != c)]
    moved, averaged = vertices.astype(np.float32), distance.astype(np.float32)
    return replace(surface, vertices_mm=moved, faces=kept.astype(np.int32), distance_mm=averaged)
