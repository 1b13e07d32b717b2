"""The digits with only 160 scans to train on, so few that the network can memorize them.

It also measures the generalization gap: the accuracy on the training scans minus that on the test scans.
"""

from adamite.lab.problem import Run
from adamite.lab.problem import problem as declare
from adamite.lab.problems import digits

TRAIN, VALID = 160, 200


@declare(name="few", source="Alpaydin, Kaynak 1998", steps=600, metric="accuracy", higher=True, tuned="validation loss")
def problem(seed: int) -> Run:
    """Handwritten digits, 160 of them to train on."""
    data, params = digits.load(), digits.start(seed)
    part = digits.Digits(data.train_scans[:TRAIN], data.train_digits[:TRAIN], data.test_scans, data.test_digits)
    valid = data.train_scans[TRAIN : TRAIN + VALID], data.train_digits[TRAIN : TRAIN + VALID]
    batches = part.batches(32, seed)

    def measure() -> dict[str, float]:
        tested = digits.accuracy(params, part.test_scans, part.test_digits)
        return {
            "accuracy": tested,
            "gap": digits.accuracy(params, part.train_scans, part.train_digits) - tested,
            "validation loss": digits.loss_and_gradient(params, *valid)[0],
        }

    return Run(params, lambda: digits.loss_and_gradient(params, *next(batches)), measure)
