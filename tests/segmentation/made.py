"""A head to judge."""

from __future__ import annotations

import numpy as np


def head_in_box():
    head = np.zeros((40, 50, 60), bool)
    head[5:35, 5:45, 5:50] = True  # 54000 voxels
    return head
