"""Tasks on the digits of scikit-learn, for methods that learn hyperparameters."""

from .noisy_digits import NoisyDigits as NoisyDigits
from .rotated_digits import RotatedDigits as RotatedDigits
