"""Figures show what they were given: scale, slices, contours, numbers in titles; distances on surfaces; a network's blocks."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from fhlib.figures import agreement_charts, schematic, surfaces
from fhlib.figures import planes as figures
from fhlib.figures import score_charts as charts
from fhlib.images.volume import Volume
from fhlib.measures.growth import fit_volume_chart
from fhlib.networks.build import build_network
from fhlib.paper.audit import printed_ratios

SPACING = (0.5, 1.0, 2.0)


def ball(
    radius_mm: float, centre_mm: tuple[float, ...] = (20, 21, 22), shape: tuple[int, ...] = (80, 42, 22)
) -> np.ndarray:
    grid = np.meshgrid(*[(np.arange(n) + 0.5) * step for n, step in zip(shape, SPACING, strict=True)], indexing="ij")
    return sum((axis - middle) ** 2 for axis, middle in zip(grid, centre_mm, strict=True)) <= radius_mm**2


@pytest.fixture
def scan() -> Volume:
    return Volume(np.random.default_rng(0).integers(0, 255, (80, 42, 22)).astype(np.uint8), SPACING)


def texts(figure: Figure) -> str:
    found = [axis.get_title() for axis in figure.axes] + [
        legend_text.get_text() for legend in figure.legends for legend_text in legend.texts
    ]
    return "\n".join([*found, figure._suptitle.get_text() if figure._suptitle else ""])


def test_planes_have_true_aspect_and_the_slices_of_the_crosshair(scan: Volume) -> None:
    figure = figures.planes(scan, {"expert": ball(12)}, crosshair=(10, 20, 5))
    images = [axis.images[0] for axis in figure.axes[:3]]
    assert [tuple(image.get_extent()) for image in images] == [
        (0, 44, 42, 0),
        (0, 44, 40, 0),
        (0, 42, 40, 0),
    ]  # mm: w, h, d = 44, 42, 40
    for image, expected in zip(images, (scan.array[10], scan.array[:, 20], scan.array[:, :, 5]), strict=True):
        np.testing.assert_array_equal(image.get_array(), expected)
    assert all(axis.get_aspect() == 1 for axis in figure.axes[:3])
    assert "d = 10 of 80" in texts(figure) and "expert" in texts(figure)
    assert figure.axes[0].lines[0].get_ydata()[0] == 20.5  # h = 20 of 1 mm, voxel centre


def test_planes_of_an_image_and_default_point_in_the_mask(scan: Volume) -> None:
    image = Volume(scan.array[:, 20], (0.5, 2.0))
    figure = figures.planes(image, {"sonographer": ball(12)[:, 20]}, probability=np.full((80, 22), 0.5))
    assert len(figure.axes) == 2 and figure.axes[0].images[0].get_extent() == [0, 44, 40, 0]
    box = np.zeros((8, 6, 12), bool)
    box[2:5, 1:4, 6:9] = True
    assert figures.centre_of(box) == (3, 2, 7)
    label = Volume(box.astype(np.uint8), (1.0, 1.0, 1.0))  # labels on disk are integers
    assert "d = 3 of 8" in texts(figures.planes(label, {"expert": label}))
    assert figures.centre_of(np.zeros((4, 6, 8), bool)) == (2, 3, 4)


def test_a_contour_of_another_shape_is_an_error(scan: Volume) -> None:
    with pytest.raises(ValueError, match="resample one to the other's grid"):
        figures.planes(scan, {"expert": np.ones((4, 4, 4), bool)})


def test_gallery_states_n_and_shows_all(scan: Volume) -> None:
    figure = figures.gallery([scan] * 5, list("abcde"), masks=[ball(10)] * 4 + [None], title="Cohort")
    assert texts(figure).split()[-4:] == ["Cohort:", "n", "=", "5"]
    assert sum(bool(axis.images) for axis in figure.axes) == 5
    with pytest.raises(ValueError, match="one label for each volume"):
        figures.gallery([scan], [])


def test_fig6_fig7_and_augmentation_in_2d_and_3d(scan: Volume) -> None:
    mask, image, flat = ball(12), Volume(scan.array[:, 20], (0.5, 2.0)), ball(12)[:, 20]
    probability = mask.astype(np.float32)
    assert len(figures.probability_comparison(scan, mask, {"A": probability, "B": probability}).axes) == 3 * 3 + 1
    assert len(figures.probability_comparison(image, flat, {"A": flat.astype(float)}).axes) == 2 + 1
    assert len(figures.augmentation_grid([(scan.array, mask)] * 4, SPACING, list("abcd")).axes) == 12
    batch = image.array[None, None]
    assert len(figures.augmentation_grid([(batch, flat[None])], (0.5, 2.0), ["original"]).axes) == 1


def test_saved_figures_are_whole_files_without_a_date(tmp_path: Path, scan: Volume) -> None:
    png, svg = figures.save_figure(figures.planes(scan), tmp_path / "figures", "planes")
    first = svg.read_bytes()
    assert Image.open(png).size[0] > 1000 and ElementTree.fromstring(first).tag.endswith("svg")
    figures.save_figure(figures.planes(scan), tmp_path / "figures", "planes")
    assert svg.read_bytes() == first and sorted(path.name for path in png.parent.iterdir()) == [
        "planes.png",
        "planes.svg",
    ]


def test_surface_distance_of_concentric_balls_is_the_difference_of_radii() -> None:
    surface = surfaces.surface_distance(ball(12), ball(15), SPACING)
    low, mean, high = surface.summary()
    assert mean == pytest.approx(3.0, abs=0.15) and low > 1.9 and high < 3.8  # voxels of up to 2 mm
    np.testing.assert_allclose(surface.vertices_mm.mean(axis=0), (20, 21, 22), atol=0.5)


def test_surface_distance_of_a_shifted_ball_and_of_itself() -> None:
    moved = surfaces.surface_distance(ball(12, (24, 21, 22)), ball(12), SPACING)
    assert moved.summary()[2] == pytest.approx(4.0, abs=0.4)
    assert surfaces.surface_distance(ball(12), ball(12), SPACING).summary() == pytest.approx((0, 0, 0), abs=1e-5)


def test_surfaces_refuse_images_and_empty_masks() -> None:
    with pytest.raises(ValueError, match="3D"):
        surfaces.surface_distance(ball(12)[0], ball(12)[0], SPACING[1:])
    with pytest.raises(ValueError, match="not empty"):
        surfaces.surface_distance(np.zeros_like(ball(12)), ball(12), SPACING)


def test_surface_map_prints_min_mean_max_and_decimation_keeps_the_shape() -> None:
    surface = surfaces.surface_distance(ball(12), ball(15), SPACING)
    figure = surfaces.surface_distance_map({"USegNet": surface, "USegNet-DS": surface})
    low, mean, high = surface.summary()
    assert [axis.get_xlabel() for axis in figure.axes].count(f"min {low:.2f}, mean {mean:.2f}, max {high:.2f} mm") == 2
    assert sum(bool(axis.collections) for axis in figure.axes if hasattr(axis, "zaxis")) == 4  # two, from two sides
    small = surfaces.decimate(surface, 500)
    assert 100 < len(small.faces) < 900 and small.distance_mm.mean() == pytest.approx(mean, abs=0.2)
    assert np.linalg.norm(small.vertices_mm - (20, 21, 22), axis=1).mean() == pytest.approx(12, abs=0.6)


def test_turning_surfaces_share_a_scale_and_mark_min_mean_and_max() -> None:
    near = surfaces.surface_distance(ball(12), ball(13), SPACING)
    far = surfaces.surface_distance(ball(12), ball(15), SPACING)
    figure = surfaces.interactive_surfaces({"near": near, "far": far}, limit_mm=2.0, faces=500)
    assert [mesh.visible for mesh in figure.data] == [True, False]
    assert {(mesh.cmin, mesh.cmax) for mesh in figure.data} == {(0, 2.0)}
    buttons = figure.layout.updatemenus[0].buttons
    assert [(b.label, b.args[0]["visible"]) for b in buttons] == [("near", [True, False]), ("far", [False, True])]
    words = figure.data[1].colorbar.ticktext  # 3 mm off everywhere, beyond a scale of 2 mm
    assert any(text.startswith(f"max {far.summary()[2]:.2f}") and "ends" in text for text in words)
    assert len(figure.data[1].i) == len(surfaces.decimate(far, 500).faces)
    assert len(figure.to_json()) < 60_000


def test_turned_surfaces_are_no_mirror_images() -> None:
    """Three marks along d, h and w keep their handedness: a right hand stays a right hand."""
    surface = surfaces.surface_distance(ball(12), ball(15), SPACING)
    mesh = surfaces.interactive_surfaces({"": surface}, faces=10**6).data[0]
    drawn = np.column_stack([mesh.x, mesh.y, mesh.z])
    turn, *_ = np.linalg.lstsq(
        surface.vertices_mm[:, ::-1], drawn, rcond=None
    )  # from (w, h, d), which is ITK's (x, y, z)
    assert np.linalg.det(turn) == pytest.approx(1.0, abs=0.01) and mesh.z.max() <= 0  # depth points down


TILT = np.array([0.3, 0.5, 0.812])  # of length 1 to three digits


def head_with_a_nose(normal: np.ndarray = TILT) -> np.ndarray:
    """An ellipsoid, flatter along `normal`, with a ball (a face) on one side of it, symmetric about the plane across `normal`."""
    first = np.cross(normal, (1.0, 0, 0))
    first /= np.linalg.norm(first)
    second = np.cross(normal, first)
    grid = np.meshgrid(
        *[(np.arange(n) + 0.5) * step for n, step in zip((80, 42, 22), SPACING, strict=True)], indexing="ij"
    )
    points = np.stack(grid, axis=-1) - (20, 21, 22)
    along, a, b = points @ normal, points @ first, points @ second
    skull = (along / 11) ** 2 + (a / 14) ** 2 + (b / 12) ** 2 <= 1
    return skull | (along**2 + (a - 12) ** 2 + (b - 7) ** 2 <= 5**2)


def test_the_median_plane_is_the_one_that_mirrors_the_face() -> None:
    centre, normal, symmetry = figures.median_plane(head_with_a_nose(), SPACING)
    assert np.degrees(np.arccos(abs(normal @ TILT) / np.linalg.norm(TILT))) < 5
    assert abs((centre - (20, 21, 22)) @ TILT) < 0.5 and 0.9 < symmetry <= 1
    with pytest.raises(ValueError, match="not empty"):
        figures.median_plane(np.zeros((4, 6, 8)), SPACING)


def test_fig6_shows_sagittal_planes_named_right_and_left_where_that_is_known(scan: Volume) -> None:
    head = head_with_a_nose()
    names = [axis.get_title() for axis in figures.sagittal_comparison(scan, {"expert": head, "A": head}).axes]
    # the head is 22 mm wide: a quarter of it is 5.5 mm from the middle
    assert [name.split(",")[0] for name in names] == ["one side", "middle", "other side"]
    assert all(4 <= int(name.split()[-2]) <= 7 for name in (names[0], names[2]))
    known = figures.sagittal_comparison(scan, {"expert": head}, right=TILT)
    assert [axis.get_title().split(",")[0] for axis in known.axes] == ["right", "middle", "left"]
    assert "mirror symmetry of expert" in texts(known)
    assert len(figures.sagittal_comparison(Volume(scan.array[:, 20], (0.5, 2.0)), {"expert": head[:, 20]}).axes) == 1


def test_a_sagittal_plane_across_the_last_axis_is_that_slice(scan: Volume) -> None:
    """A head that is symmetric about w = 22 mm, in a volume whose grey levels count the voxels along d."""
    head = head_with_a_nose(np.array([0, 0, 1.0]))
    counting = Volume(np.repeat(np.arange(80, dtype=np.float32)[:, None, None], 42, 1).repeat(22, 2), SPACING)
    middle = figures.sagittal_comparison(counting, {"expert": head}).axes[1].images[0]
    shown = np.asarray(middle.get_array())
    rows = shown[:, shown.shape[1] // 2]
    rows = rows[(rows > 2) & (rows < 77)]
    np.testing.assert_allclose(
        np.diff(rows), 1.0, atol=0.02
    )  # grey grows by one each voxel of d, 0.5 mm, the plane's step


def blocks(name: str, **options: int) -> dict[str, schematic.Node]:
    net = build_network(name, **options)
    return {
        f"{node.name}{number if node.kind in ('function', 'MaxPool3d') else ''}": node
        for number, node in enumerate(schematic.trace(net, (1, 16, 24, 40), (schematic.AttentionModule,)))
    }


def test_the_schematics_record_is_the_papers_network_at_width_32() -> None:
    found = blocks("USegNet-DS-HAS")
    encoder = [(node.shape[0], node.kernels[0][0]) for name, node in found.items() if name.startswith("encoder")]
    assert encoder == [(32, 3), (32, 3), (64, 3), (64, 3), (64, 5), (64, 5), (64, 5), (64, 5)]
    ups = [found[f"decoder.{stage}.up"] for stage in range(3)]
    assert [(up.shape, up.kernels[0][0]) for up in ups] == [
        ((64, 4, 6, 10), 5),
        ((64, 8, 12, 20), 5),
        ((32, 16, 24, 40), 3),
    ]
    skips = [found[f"decoder.{stage}.skip_attention"].kernels[-1][0] for stage in range(3)]
    paths = [found[f"decoder.{stage}.path_attention"].kernels[-1][0] for stage in range(3)]
    assert skips == [5, 3, 3] and paths == [5, 5, 3]
    assert [node.shape[0] for name, node in found.items() if name.startswith("cat")] == [128, 128, 96]
    assert [found[f"decoder.{stage}.side"].shape for stage in (0, 1)] == [(2, 4, 6, 10), (2, 8, 12, 20)]
    assert found["head"].shape == (2, 16, 24, 40)
    assert sum(node.parameters for node in found.values()) == 6_142_918


def test_the_schematic_changes_with_the_variant() -> None:
    def drawn(name: str) -> str:
        figure = schematic.network_schematic(build_network(name), (15, 24, 33), title=name)
        return "\n".join([text.get_text() for text in figure.axes[0].texts] + [texts(figure)])

    plain, hybrid, no_skips = (drawn(name) for name in ("USegNet-DS", "USegNet-DS-HAS", "3D-DeconvNet"))
    assert [hybrid.count(f"{kind}AM-{number}") for kind in "SU" for number in (1, 2, 3)] == [1] * 6
    assert "AM-" not in plain and "attention" not in plain and plain.count("side branch\n2 ch.") == 2
    assert plain.count("concat\n") == 3 and "concat\n" not in no_skips and "side branch\n" not in no_skips
    assert "3,891,462 parameters" in plain and "6,142,918 parameters" in hybrid
    assert "16×24×40" in plain and "2×3×5" in plain  # padded to multiples of 8; the bottom at 1/8
    assert "UAM-1" in drawn("UAM-1") and "UAM-2" not in drawn("UAM-1")
    flat = schematic.network_schematic(build_network("USegNet", 8, 2), (24, 33))
    assert "24×40" in {line for text in flat.axes[0].texts for line in text.get_text().splitlines()}
    with pytest.raises(ValueError, match="Competitor"):
        schematic.network_schematic(build_network("Attention-U-Net", 4), (32, 32, 32))


def test_who_reads_what_in_an_attention_module_is_equations_3_and_4() -> None:
    net = build_network("USegNet-DS-HAS", 8)
    nodes = schematic.trace(net.decoder[2].skip_attention, (8, 16, 24, 40))
    names = [node.name for node in nodes]
    assert names == ["input", "shrink", "weigh.0", "weigh.1", "softmax", "mul", "cat", "out"]
    reads = {node.name: [names[parent] for parent in node.parents] for node in nodes}
    assert (
        reads["softmax"] == ["weigh.1"] and reads["mul"] == ["shrink", "softmax"] and reads["cat"] == ["shrink", "mul"]
    )
    figure = schematic.attention_schematic(net, (16, 24, 40), "UAM-1")
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert [letter for letter in shown if letter in {*"FPWAT"}] == list("FPWAT")
    assert "conv\n5×5×5\n8 ch." in shown and "UAM-1 at 4×6×10" in texts(figure)
    with pytest.raises(ValueError, match="no attention module SAM-4, it has: SAM-1"):
        schematic.attention_schematic(net, (16, 24, 40), "SAM-4")
    with pytest.raises(ValueError, match="it has: none"):
        schematic.attention_schematic(build_network("USegNet", 8), (16, 24, 40))


def test_bland_altman_numbers_by_hand() -> None:
    reference = np.array([100.0, 200.0, 300.0, 400.0, 500.0])
    measured = reference + np.array([-2.0, 0.0, 2.0, 4.0, -4.0])  # bias 0, SD sqrt(40 / 4) = 3.162, 1.96 SD = 6.2
    figure = agreement_charts.correlation_and_agreement(np.append(measured, np.nan), np.append(reference, 250))
    assert "n = 5, 1 without a measurement,  r = 1.000" in texts(figure)
    assert "0.0 ± 6.2 mL (1.96 SD), 5 of 5 inside" in texts(figure)
    with pytest.raises(ValueError, match="at least 3 pairs"):
        agreement_charts.correlation_and_agreement([1.0, np.nan, 2.0], [1.0, 2.0, 3.0])


def test_reproducibility_title_by_hand() -> None:
    points = pd.DataFrame(
        {
            "subject": list("aaabbbc"),
            "scan_direction": list("fstfsts"),
            "volume_ml": [100, 110, 120, 200, 200, 200, np.nan],
        }
    )
    title = texts(agreement_charts.reproducibility_boxes(points))
    assert (
        "2 subjects, 6 scans, 1 scans missed" in title and "mean 5.0, min 0.0, max 10.0 mL" in title
    )  # SDs 10 and 0, ddof 1


def scores() -> pd.DataFrame:
    return pd.DataFrame({"variant": ["USegNet-DS"] * 3, "status": ["found", "found", "missed"], "dsc": [0.9, 0.8, 0.0],
                         "conf": [7 / 9, 0.5, -np.inf],
                         "jacc": [9 / 11, 2 / 3, 0], "adb_mm": [1.0, 2.0, np.nan], "hdb_mm": [4.0, 6.0, np.nan]})  # fmt: skip


def test_table_beside_paper_by_hand() -> None:
    paper = pd.DataFrame({"variant": ["USegNet", "USegNet-DS"], "dsc_percent": [94.83, 94.95], "conf_percent": [89.06, 89.33],
                          "jacc_percent": [90.2, 90.42],
                          "adb_mm": [0.6186, 0.6225], "hdb_mm": [5.4, 5.409]})  # fmt: skip
    table = charts.table_beside_paper(scores(), paper).set_index("variant")
    row = table.loc["USegNet-DS"]
    assert row["n"] == 3 and row["missed"] == 1
    assert row["DSC [%], here"].startswith("56.67") and row["DSC [%], paper"] == "94.95"  # the missed case counts as 0
    assert row["Adb [mm], here"] == "1.500 ± 0.707" and row["Hdb [mm], here"].startswith("5.000")
    assert row["Conformity [%], here"].startswith("63.89")  # (77.78 + 50) / 2, found cases only
    assert table.loc["USegNet", "DSC [%], here"] == "" and table.loc["USegNet", "Adb [mm], paper"] == "0.619"


def test_the_course_of_validation_puts_seeds_in_one_row_and_changes_in_their_own() -> None:
    rows = [
        {
            "run": run,
            "variant": variant,
            "level": 1,
            "changed": changed,
            "step": step,
            "val_dsc": 0.9 + step / 1000 + add,
        }
        for run, variant, changed, add in [
            ("a", "USegNet-DS", "", 0.0),
            ("a", "USegNet-DS-HAS", "", 0.01),
            ("b", "USegNet-DS", "", 0.02),
            ("c", "USegNet-DS-HAS", "steps=20, width=4", 0.03),
            ("c", "USegNet", "", 0.015),
        ]
        for step in (10, 20)
    ]
    course, ends = charts.validation_course(pd.DataFrame(rows)).axes
    assert [label.get_text() for label in ends.get_yticklabels()] == [
        "USegNet-DS",
        "USegNet-DS-HAS",
        "USegNet-DS-HAS steps=20\nwidth=4",
        "USegNet",
    ]
    points = [(float(line.get_xdata()[0]), int(line.get_ydata()[0]), line.get_marker()) for line in ends.lines]
    assert points == [  # an end more than a point below the best stands at the edge
        *((pytest.approx(94), 0, "<"), (pytest.approx(94), 1, "<"), (pytest.approx(94), 0, "o")),
        *((pytest.approx(95), 2, "o"), (pytest.approx(94), 3, "<")),
    ]
    assert [note.get_text() for note in ends.texts] == ["92.0", "93.0", "93.5"]
    assert [line.get_linestyle() for line in course.lines] == ["-", "-", "-", "--", "-"]
    assert course.lines[0].get_color() == course.lines[2].get_color() != course.lines[1].get_color()


def test_charts_of_scores_history_growth_and_times() -> None:
    boxes = charts.score_boxes(scores())
    assert boxes.axes[0].get_yticklabels()[0].get_text() == "USegNet-DS\nn = 2, 1 missed"
    history = pd.DataFrame({"step": range(10), "loss": np.linspace(2, 1, 10), "main_loss": np.linspace(1, 0.5, 10),
                            "val_dsc": [np.nan] * 9 + [0.9], "learning_rate": 1e-3})  # fmt: skip
    curves = charts.learning_curves({"level 1": history, "level 2": history})
    assert [axis.get_ylabel() for axis in curves.axes] == [
        "loss (cross-entropy, log scale)",
        "validation DSC [%]",
        "learning rate",
    ]
    assert curves.axes[1].lines[0].get_ydata()[-1] == pytest.approx(90)
    frame = pd.DataFrame(
        {"ga_weeks": [20.0, 26, 31, np.nan], "hc_mm": [172.5, 240.5, 286.6, 200], "volume_ml": [120, 240, 400, 1]}
    )
    growth = charts.growth_curve(frame)
    assert [axis.get_ylabel() for axis in growth.axes] == ["head circumference [mm]", "volume of the whole head [mL]"]
    mean = growth.axes[0].lines[0]
    assert np.interp(26, mean.get_xdata(), mean.get_ydata()) == pytest.approx(
        240.5, abs=0.2
    )  # INTERGROWTH-21st at 26 weeks
    assert growth.axes[0].get_title() == "n = 3 of 4"
    with pytest.raises(ValueError, match="needs ga_weeks"):
        charts.growth_curve(frame[["hc_mm"]])
    bars = charts.timing_bars(pd.DataFrame({"name": ["slow", "fast"], "seconds": [2.0, 1.0]}))
    assert [label.get_text() for label in bars.axes[0].get_yticklabels()] == ["fast", "slow"]


def test_volume_chart_and_ratios_state_their_numbers() -> None:
    weeks = np.linspace(20, 30, 40)
    chart = fit_volume_chart(weeks, 5.0 * weeks + np.sin(np.arange(40)) * 4, resamples=30)
    assert "n = 40" in texts(
        agreement_charts.volume_chart(chart, pd.DataFrame({"ga_weeks": weeks, "volume_ml": 5 * weeks}))
    )
    ratios = printed_ratios()
    # Table 1, last row: 1 - 0.9605 = 3 t / (2 x 38.55 mm) gives t = 1.015 mm, printed 0.479
    assert ratios.set_index("variant").loc["USegNet-DS-HAS-Ctx", "ratio"] == pytest.approx(0.479 / 1.0151, rel=1e-3)
    experiment = pd.DataFrame(
        {
            "dsc": [0.95, 0.96],
            "spacing_mm": [0.38, 1.0],
            "symmetric": [1.0, 1.0],
            "filled": [0.5, 0.5],
            "eq7_mm3": [0.4, 0.1],
            "eq7_voxels": [0.1, 0.1],
        }
    )
    shown = texts(agreement_charts.ratio_chart(experiment, ratios))
    assert "9 printed rows" in shown and "filled: voxels of 0.38 mm, open: 1 mm" in shown


def test_forest_of_differences_has_the_papers_beside() -> None:
    compared = pd.DataFrame(
        {
            "variant": ["B", "C"],
            "baseline": "A",
            "difference": [0.01, -0.02],
            "low": [0.005, -0.03],
            "high": [0.02, 0.01],
        }
    )
    printed = pd.DataFrame({"variant": ["A", "B"], "dsc_percent": [90.0, 91.5]})
    axis = charts.difference_forest(compared, printed).axes[0]
    cross = next(line for line in axis.lines if line.get_marker() == "x")
    assert cross.get_xdata()[0] == pytest.approx(1.5) and axis.get_xlabel().endswith("difference from A")
    ends = [sorted(x for x, _ in path.get_segments()[0]) for path in axis.collections]
    assert ends[0] == pytest.approx([0.5, 2.0]) and ends[1] == pytest.approx([-3.0, 1.0])


def test_distributions_of_two_tables_put_together() -> None:
    part = pd.DataFrame({"a": [1.0, 2.0, np.nan], "b": [3.0, 4.0, 5.0]})
    both = pd.concat([part.assign(set="real"), part.assign(set="simulated")])
    figure = charts.compare_distributions(both, {"a": "length [mm]", "b": "grey level"}, by="set")
    assert len(figure.axes) == 2 and figure.axes[0].get_xlabel() == "length [mm]"


def test_tissues_have_a_colour_each_and_are_named() -> None:
    tissues = Volume(np.arange(24, dtype=np.uint8).reshape(2, 3, 4).repeat(6, 0).repeat(4, 1).repeat(3, 2), (1, 1, 2))
    names = [f"tissue {number}" for number in range(24)]
    figure = figures.tissues_beside_echo(tissues, tissues, names)
    handles = figure.legends[0].legend_handles
    assert len({handle.get_facecolor() for handle in handles}) == len(handles) >= 12
    assert {text.get_text() for text in figure.legends[0].get_texts()} <= set(names)
