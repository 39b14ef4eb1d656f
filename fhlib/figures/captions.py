"""What one sees in each figure of the study, by the name under which it is kept."""

from __future__ import annotations

import re

CAPTIONS = {
    r"00_network": "The network {0}, drawn from the code: encoder on the left, up path on the right, attention in both.",
    r"00_attention": "Inside one attention module: features P, weights W, shares A of the channels, and T, which is passed on.",
    r"01_gallery": "One slice of each of several scans; the line is the label's outline.",
    r"01_planes": "The first scan in three planes through the middle of its label, with the label's outline.",
    r"01_ages": "Simulated scans of 12 to 40 weeks; the line is the true outline of the head.",
    r"01_anatomy": "The simulated anatomy, tissue by tissue (top), and what the simulated probe sees of it (bottom).",
    r"01_edges": "How much of the outline has no visible edge, by part of the head. A dot is a scan, the line their mean.",
    r"01_growth": "Head size of the cohort's scans against gestational age, over a published growth chart.",
    r"02_augmentation": "One training scan and altered copies of it, as the network reads them; the line is the altered label.",
    r"03_network-(?P<of>.+)": "The network {of}, drawn from the code that was trained here.",
    r"03_attention-(?P<of>.+)": "Inside one attention module of {of}.",
    r"03_learning-(?P<of>.+)": "{of}: loss in training and DSC of the validation scans, step by step.",
    r"04_(?P<of>[\w-]+?)_(?P<case>.+)": "Test scan {case} in three planes: its true outline and that of {of}.",
    r"05_scores": "Scores of the test scans (dots), network by network, with median, quartiles and mean (diamond).",
    r"05_surfaces_variants": "Where the outline is off: distance to the true surface in mm, on one test scan, for each network.",
    r"05_surfaces": "Where the outline is off: distance to the true surface in mm, on test scans from the worst to the best.",
    r"06_agreement": "Left: measured against true size. Right: difference against mean (Bland-Altman), with limits of agreement.",
    r"06_volume_chart": "Volume of the whole head against gestational age in this cohort, with centiles and their 95 % bands.",
    r"07_reproducibility": "Each subject's head volume from several directions. The closer one subject's marks, the better it repeats.",
    r"08_contours": "One test scan cut through the middle of the head: the true outline and those of the networks.",
    r"08_probability": "Probability of head in one test scan, for two networks; the line is the true outline.",
    r"08_attention": "One test scan and what each attention module weighs there, module by module.",
    r"08_boundary_channels": "The channels of each attention module that follow the head's boundary most closely.",
    r"08_before_and_after": "Features of one module before and after attention.",
    r"08_two_models": "The same place in two networks, with and without attention.",
    r"08_two_levels": "The same place at the first and at the second context level.",
    r"08_explorer": "The parts of one attention module at one place: image, P, A, T and the probability.",
    r"08_shares": "How much of attention lies inside the head, at its boundary and outside, over the test scans.",
    r"09_adb_ratio": "Average boundary distance over what the DSC implies: four definitions (marks), the paper's Table 1 (crosses).",
    r"10_(?P<case>.+)": "Scan {case} with the outline that was found in it.",
    r"11_measures": "Time that each tool takes for the measures of one pair, as a multiple of fhlib's.",
    r"11_networks": "Time of one forward pass of each network, as a multiple of the first's.",
    r"12_simulated": "Simulated single planes as a network learns from them.",
    r"12_real_and_simulated": "Real images (HC18) and simulated ones side by side.",
    r"12_realism": "Properties of real and of simulated images: how their values are distributed.",
    r"13_differences": "Difference in DSC from the baseline with 95 % intervals, beside what the paper prints on its own data.",
    r"13_validation": "DSC of the validation scans during each training (left) and at its end (right).",
    r"14_few_cases": "DSC on held-out scans against the number of corrected scans that were learnt from.",
    r"15_chart": "Head volume against gestational age: measurements, and centiles with their 95 % bands after the error is taken out.",
    r"15_truth": "The chart as measured and the corrected one beside the true centiles (dashed).",
    r"15_worms": "How the z-scores depart from a normal distribution, by age: a worm within its grey band fits.",
    r"15_sizes": "Standard error of the outer centiles against the number of subjects, beside Royston's formula.",
    r"15_dating": "Error of the age told by HC and by head volume, by trimester.",
    r"16_trajectories": "Head volumes of some subjects over five visits, over the centiles of healthy ones.",
    r"16_roc": "Disorders found against false alarms, for each measure, from three visits.",
    r"16_useful_error": "Disorders found at 5 % false alarms against the error of measurement (lines), beside HC (dashed).",
}
"""Captions by a pattern of the name; its named groups fill the braces."""


def caption_of(name: str) -> str:
    """The caption of a figure; empty for a name that is not known.

    Args:
        name: without suffix, such as `03_learning-USegNet-DS-level1`.
    """
    for pattern, caption in CAPTIONS.items():
        if found := re.fullmatch(pattern, name):
            words = {key: _in_words(value) for key, value in found.groupdict().items()}
            return caption.format("USegNet-DS-HAS", **words)
    return ""


def _in_words(part: str) -> str:
    return re.sub(r"-level(\d+)$", r", level \1", part)
