"""The functions f of equation 2: how far an adapted student map is from the teacher's.

Each takes the student's and the teacher's maps `(N, C, h, w)`, float32, the teacher's already normalised, and returns
one number. Squared and absolute losses are means over all elements, so that they do not grow with the map (Caffe's sum
does, recipe 3.3: multiply its learning rate accordingly).
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]

# The paper's second loss thresholds the teacher and scales the student, "for some reasonable choices" (section 4).
LOGISTIC_THRESHOLD = 0.5  # in units of the normalised teacher; the paper's value is unknown
LOGISTIC_SLOPE = 1.0


def l2(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance, the paper's choice: mean over elements of (x - y)^2."""
    return F.mse_loss(student, teacher)


def smooth_l1(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared near zero, absolute beyond a difference of 1."""
    return F.smooth_l1_loss(student, teacher)


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the cosine between the two feature vectors, mean over cells: directions count, lengths do not."""
    return 1 - F.cosine_similarity(student, teacher, dim=1, eps=1e-6).mean()


def logistic(student: Tensor, teacher: Tensor) -> Tensor:
    """Is the teacher's unit active? The paper's other loss, with p(x) = sigmoid(alpha x), as a loss to minimise."""
    return F.binary_cross_entropy_with_logits(LOGISTIC_SLOPE * student, (teacher > LOGISTIC_THRESHOLD).float())


LOSSES: dict[str, Loss] = {"l2": l2, "logistic": logistic, "cosine": cosine, "smooth-l1": smooth_l1}
