"""Distance from a segmentation's surface to the reference's, drawn on the surface (Fig. 4 and 5)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import plotly.io
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from mpl_toolkits.mplot3d.axes3d import Axes3D
from numpy.typing import NDArray
from scipy import ndimage, spatial
from skimage import measure

from fhlib.figures.style import Look, new_figure
from fhlib.images.volume import Array, Floats, Mask, Volume

DISTANCE_MAP = "YlOrRd"
PRINTED_FACES = 10_000
MARGIN = 3
"""Voxels around a mask, so that its surface closes."""
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
    return Surface((vertices + corner).astype(np.float32), faces.astype(np.int32), distance.astype(np.float32))


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
    surfaces: Mapping[str, Surface],
    columns: int = 5,
    limit_mm: float | None = None,
    views: Sequence[tuple[float, float]] = ((12, -60), (12, 120)),
    title: str | None = None,
) -> Figure:
    """Fig. 4 and 5: lit surfaces coloured by distance on one common scale, each bar marked with its min, mean and max.

    The first array axis (d) points down.

    Args:
        surfaces: by their titles.
        columns: at most so many surfaces a row.
        limit_mm: the scale's upper end; by default the largest 99th percentile of all surfaces.
        views: elevation and azimuth in degrees, one below the other; by default from two opposite sides.
        title: above the figure.

    Raises:
        ValueError: there is no surface.
    """
    if not surfaces:
        raise ValueError("surface_distance_map needs at least one surface")
    columns = min(columns, len(surfaces))
    rows = math.ceil(len(surfaces) / columns)
    limit = limit_mm or _common_limit(surfaces)
    norm, cmap = Normalize(0, limit), colormaps[DISTANCE_MAP]
    size = (2.2 * columns + 0.2, (1.95 * len(views) + 0.65) * rows + (0.3 if title else 0.0))
    figure, axes = new_figure(rows * len(views), columns, size, title, subplot_kw={"projection": "3d"})
    reach = max(float(np.ptp(surface.vertices_mm, axis=0).max()) for surface in surfaces.values()) / 2
    for axis in axes.flat:
        axis.set_axis_off()
    for number, (name, surface) in enumerate(surfaces.items()):
        row, column = divmod(number, columns)
        panels = axes[row * len(views) : (row + 1) * len(views), column]
        drawn = decimate(surface, PRINTED_FACES)
        for axis, view in zip(panels, views, strict=True):
            _draw(axis, drawn, cmap(norm(drawn.distance_mm)), reach, view)
        panels[0].set_title(name, fontsize=8)
        _distance_bar(figure, panels[-1], surface.summary(), norm)
    return figure


def _draw(axis: Axes3D, surface: Surface, colours: Array, reach: float, view: tuple[float, float]) -> None:
    """Draw a lit surface in a cube that reaches equally far to all sides; `colours` (n, RGBA) are of its vertices."""
    points = surface.vertices_mm[:, [2, 1, 0]] * np.array([1, -1, -1])  # d down by a half turn: no mirror image
    triangles = points[surface.faces]
    faces = colours[surface.faces].mean(axis=1)
    faces[:, :3] *= _shade(triangles, points.mean(axis=0), view)[:, None]
    mesh = Poly3DCollection(triangles, facecolors=faces, edgecolors=faces, linewidths=0.4, rasterized=True)
    axis.add_collection3d(mesh)

    x, y, z = (points.max(axis=0) + points.min(axis=0)) / 2
    axis.set(xlim=(x - reach, x + reach), ylim=(y - reach, y + reach), zlim=(z - reach, z + reach))
    axis.set_box_aspect((1, 1, 1), zoom=1.45)
    axis.view_init(*view)
    axis.set_axis_off()


def _shade(triangles: Array, centre: Floats, view: tuple[float, float]) -> Floats:
    """Brightness (m,) of triangles in a light that comes from above and beside the viewer."""
    elevation, azimuth = np.radians(view)
    eye = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    up = np.array([0, 0, 1])
    side = np.cross(up, eye)
    light = eye + 0.7 * up - 0.6 * side / np.linalg.norm(side)
    normals = _unit(_face_normals(triangles))
    # marching cubes does not say which way its triangles turn: most normals of a head point away from its centre
    outward = np.sign(np.einsum("ij,ij->i", normals, triangles.mean(axis=1) - centre).sum()) or 1.0
    return 0.6 + 0.4 * np.clip(outward * normals @ (light / np.linalg.norm(light)), 0, 1)


def _distance_bar(figure: Figure, axis: Axes3D, summary: Summary, norm: Normalize) -> None:
    """A colour bar below the surface with ticks of the common scale, arrows at min, mean and max, and the three numbers."""
    low, mean, high = summary
    limit = float(norm.vmax or 1.0)
    shape: Look = {"orientation": "horizontal", "shrink": 0.75, "pad": 0.0, "aspect": 22}
    shape["extend"] = "max" if high > limit else "neither"
    bar = figure.colorbar(ScalarMappable(norm, DISTANCE_MAP), ax=axis, **shape)
    bar.ax.tick_params(labelsize=7, length=2)
    arrows: Look = {"color": "black", "markersize": 3.5, "clip_on": False}
    bar.ax.plot(np.minimum(summary, limit), [1.35] * 3, "v", transform=bar.ax.get_xaxis_transform(), **arrows)
    bar.set_label(f"min {low:.2f}, mean {mean:.2f}, max {high:.2f} mm", fontsize=8)


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
    limit = limit_mm or _common_limit(surfaces)
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


def _common_limit(surfaces: Mapping[str, Surface]) -> float:
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
    return Surface(vertices.astype(np.float32), kept.astype(np.int32), distance.astype(np.float32))
