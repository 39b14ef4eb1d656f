"""Distance from a segmentation's surface to the reference's, drawn on the surface (Fig. 4 and 5)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from numpy.typing import NDArray
from scipy import ndimage, spatial
from skimage import measure

from fhlib.figures.style import new_figure

DISTANCE_MAP = "YlOrRd"
PRINTED_FACES = 10_000

# JupyterLab and the report draw plotly's JSON; plotly's default adds its whole library (5 MB) to every notebook.
plotly.io.renderers.default = "plotly_mimetype"


@dataclass(frozen=True)
class Surface:
    """A triangle mesh with a distance at each vertex.

    `vertices_mm` (n, 3) in array order (d, h, w) from the array's corner; `faces` (m, 3) vertex numbers; `distance_mm` (n,), unsigned,
    to the reference surface.
    """

    vertices_mm: NDArray[np.float32]
    faces: NDArray[np.int32]
    distance_mm: NDArray[np.float32]

    def summary(self) -> tuple[float, float, float]:
        """Minimum, mean and maximum of the distance over vertices, in mm."""
        return float(self.distance_mm.min()), float(self.distance_mm.mean()), float(self.distance_mm.max())


def surface_distance(
    prediction: Any, reference: Any, spacing_mm: Sequence[float], resolution_mm: float = 1.0
) -> Surface:
    """Surface of `prediction` with the distance of each vertex to the surface of `reference`; 3D boolean arrays of one shape.

    For pictures: both masks are averaged to about `resolution_mm` and slightly smoothed before marching cubes, so that no voxel
    staircase is drawn; the tables' distances come from `fhlib.measures.metrics`, on the voxels. Raises ValueError for 2D or empty masks.
    """
    masks = [np.asarray(getattr(mask, "array", mask)) > 0 for mask in (prediction, reference)]
    if masks[0].shape != masks[1].shape or masks[0].ndim != 3:
        raise ValueError(f"surfaces need two 3D masks of one shape, got {masks[0].shape} and {masks[1].shape}")
    if not all(mask.any() for mask in masks):
        raise ValueError(
            "a surface needs a mask that is not empty: leave missed cases out of surface maps and name them beside the figure"
        )
    box = ndimage.find_objects((masks[0] | masks[1]).astype(np.uint8))[0]
    factors = tuple(max(1, round(resolution_mm / step)) for step in spacing_mm)
    corner = np.array([part.start * step for part, step in zip(box, spacing_mm, strict=True)])
    (vertices, faces, _), (reference_vertices, _, normals) = (_mesh(mask[box], factors, spacing_mm) for mask in masks)
    gap, nearest = spatial.cKDTree(reference_vertices).query(vertices)
    # Distance to the tangent plane at the nearest vertex removes the error of the vertices' own spacing; where the vertex
    # is not the foot of the perpendicular, the distance to the vertex stands.
    along = np.abs(np.einsum("ij,ij->i", vertices - reference_vertices[nearest], normals[nearest]))
    across = np.sqrt(np.maximum(gap**2 - along**2, 0))
    distance = np.where(across <= 1.5 * resolution_mm, along, gap)
    return Surface((vertices + corner).astype(np.float32), faces.astype(np.int32), distance.astype(np.float32))


def _mesh(
    mask: NDArray[np.bool_], factors: tuple[int, ...], spacing_mm: Sequence[float]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Vertices (mm from the mask's corner), faces and unit normals of a smoothed mask."""
    margin = 3
    coarse = measure.block_reduce(mask.astype(np.float32), factors, np.mean)
    step = tuple(factor * spacing for factor, spacing in zip(factors, spacing_mm, strict=True))
    padded = ndimage.gaussian_filter(np.pad(coarse, margin), 1.0)
    level = min(0.5, 0.5 * float(padded.max()))
    vertices, faces, *_ = measure.marching_cubes(padded, level, spacing=step)
    return vertices - (margin - 0.5) * np.array(step), faces, _normals(vertices, faces)


def _normals(vertices: NDArray[Any], faces: NDArray[Any]) -> NDArray[Any]:
    """Unit vertex normals from the faces in mm (those of scikit-image are in voxels, wrong where voxels are not cubes)."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], np.cross(b - a, c - a))
    return normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12)


def surface_distance_map(
    surfaces: Mapping[str, Surface],
    columns: int = 5,
    limit_mm: float | None = None,
    views: Sequence[tuple[float, float]] = ((12, -60), (12, 120)),
    title: str | None = None,
) -> Figure:
    """Fig. 4 and 5: lit surfaces coloured by distance [mm] on one common scale; each bar is marked with its min, mean and max.

    `limit_mm` is the scale's upper end (default: the largest 99th percentile of all surfaces); `views` are elevation and azimuth in
    degrees, by default from two opposite sides, one below the other. The first array axis (d) points down. Raises ValueError without
    a surface.
    """
    if not surfaces:
        raise ValueError("surface_distance_map needs at least one surface")
    columns = min(columns, len(surfaces))
    rows = math.ceil(len(surfaces) / columns)
    limit = limit_mm or _common_limit(surfaces)
    norm, cmap = Normalize(0, limit), colormaps[DISTANCE_MAP]
    size = (2.2 * columns + 0.2, (1.95 * len(views) + 0.65) * rows + (0.3 if title else 0.0))
    figure, axes = new_figure(rows * len(views), columns, size, subplot_kw={"projection": "3d"})
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
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def _draw(axis: Any, surface: Surface, colours: NDArray[Any], reach: float, view: tuple[float, float]) -> None:
    points = surface.vertices_mm[:, [2, 1, 0]] * np.array([1, -1, -1])  # d down by a half turn: no mirror image
    triangles = points[surface.faces]
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    elevation, azimuth = np.radians(view)
    eye = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    side = np.cross([0, 0, 1], eye)
    light = eye + 0.7 * np.array([0, 0, 1]) - 0.6 * side / np.linalg.norm(side)
    outward = np.sign(np.einsum("ij,ij->i", normals, triangles.mean(axis=1) - points.mean(axis=0)).sum()) or 1.0
    shade = 0.6 + 0.4 * np.clip(outward * normals @ (light / np.linalg.norm(light)), 0, 1)
    faces = colours[surface.faces].mean(axis=1)
    faces[:, :3] *= shade[:, None]
    mesh = Poly3DCollection(triangles, facecolors=faces, edgecolors=faces, linewidths=0.4, rasterized=True)
    axis.add_collection3d(mesh)
    centre = (points.max(axis=0) + points.min(axis=0)) / 2
    axis.set(
        xlim=(centre[0] - reach, centre[0] + reach),
        ylim=(centre[1] - reach, centre[1] + reach),
        zlim=(centre[2] - reach, centre[2] + reach),
    )
    axis.set_box_aspect((1, 1, 1), zoom=1.45)
    axis.view_init(*view)
    axis.set_axis_off()


def _distance_bar(figure: Figure, axis: Any, summary: tuple[float, float, float], norm: Normalize) -> None:
    """A colour bar below the surface with ticks of the common scale, arrows at min, mean and max, and the three numbers."""
    low, mean, high = summary
    limit = float(norm.vmax or 1.0)
    extend = "max" if high > limit else "neither"
    bar = figure.colorbar(
        ScalarMappable(norm, DISTANCE_MAP),
        ax=axis,
        orientation="horizontal",
        shrink=0.75,
        pad=0.0,
        aspect=22,
        extend=extend,
    )
    bar.ax.tick_params(labelsize=7, length=2)
    bar.ax.plot(
        [min(value, limit) for value in summary],
        [1.35] * 3,
        "v",
        color="black",
        markersize=3.5,
        clip_on=False,
        transform=bar.ax.get_xaxis_transform(),
    )
    bar.set_label(f"min {low:.2f}, mean {mean:.2f}, max {high:.2f} mm", fontsize=8)


def interactive_surfaces(
    surfaces: Mapping[str, Surface], limit_mm: float | None = None, faces: int = 9000
) -> go.Figure:
    """Surfaces that turn in the browser (plotly), one at a time by name, on one common scale [mm] marked with its min, mean and max.

    Each is decimated by vertex clustering to at most about `faces` triangles (some 200 kB); the numbers are those of the whole surface.
    `limit_mm` as in `surface_distance_map`. Raises ValueError without a surface.
    """
    if not surfaces:
        raise ValueError("interactive_surfaces needs at least one surface")
    limit = limit_mm or _common_limit(surfaces)
    meshes, buttons = [], []
    for number, (name, surface) in enumerate(surfaces.items()):
        small = decimate(surface, faces)
        d, h, w = small.vertices_mm.T.round(2)
        i, j, k = small.faces.T
        meshes.append(
            go.Mesh3d(
                x=w, y=-h, z=-d, i=i, j=j, k=k, intensity=small.distance_mm.round(2), colorscale=DISTANCE_MAP, cmin=0, cmax=limit,
                name=name, visible=number == 0, colorbar=_marked_bar(surface.summary(), limit),
                lighting={"ambient": 0.75, "diffuse": 0.4, "specular": 0.05}, hovertemplate="%{intensity:.2f} mm<extra></extra>",
            )
        )  # fmt: skip
        shown = [other == number for other in range(len(surfaces))]
        buttons.append({"label": name, "method": "restyle", "args": [{"visible": shown}]})
    hidden, camera = {"visible": False}, {"eye": {"x": 1.15, "y": -1.3, "z": 0.4}}
    layout = {
        "scene": {"xaxis": hidden, "yaxis": hidden, "zaxis": hidden, "aspectmode": "data", "camera": camera},
        "height": 480,
        "margin": {"l": 0, "r": 0, "t": 50, "b": 0},
        "template": "none",
        "updatemenus": [
            {"type": "buttons", "direction": "right", "x": 0, "xanchor": "left", "y": 1.08, "yanchor": "bottom", "buttons": buttons}
        ] * (len(buttons) > 1),
    }  # fmt: skip
    return go.Figure(meshes, layout)


def _marked_bar(summary: tuple[float, float, float], limit: float) -> dict[str, Any]:
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
    """Merge vertices within cells of a grid, coarse enough that at most about `faces` triangles stay; distances are averaged."""
    if len(surface.faces) <= faces:
        return surface
    area = float(np.linalg.norm(np.cross(*_edges(surface)), axis=1).sum() / 2)
    cell = math.sqrt(2 * area / faces)
    _, owner = np.unique(np.floor(surface.vertices_mm / cell).astype(np.int64), axis=0, return_inverse=True)
    owner = owner.ravel()
    count = np.bincount(owner)
    vertices = np.column_stack([np.bincount(owner, weights=column) / count for column in surface.vertices_mm.T])
    distance = np.bincount(owner, weights=surface.distance_mm) / count
    merged = owner[surface.faces]
    kept = merged[(merged[:, 0] != merged[:, 1]) & (merged[:, 1] != merged[:, 2]) & (merged[:, 0] != merged[:, 2])]
    return Surface(vertices.astype(np.float32), kept.astype(np.int32), distance.astype(np.float32))


def _edges(surface: Surface) -> tuple[NDArray[Any], NDArray[Any]]:
    a, b, c = (surface.vertices_mm[surface.faces[:, corner]] for corner in range(3))
    return b - a, c - a
