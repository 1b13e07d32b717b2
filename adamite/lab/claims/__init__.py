"""What the article claims about optimizers, and an experiment for each claim."""

from adamite.lab.claims import corrections, cost, sparse, speed, tuning, variants, when
from adamite.lab.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = (
    *(*speed.CLAIMS, *sparse.CLAIMS, *corrections.CLAIMS),
    *(*tuning.CLAIMS, *variants.CLAIMS, *when.CLAIMS, *cost.CLAIMS),
)

# Claims that no experiment can settle here, in the article's words, and why.
LEFT_OUT = (
    ("one of the most widely used optimization algorithms", "usage is a question for a survey"),
    ("Introduced by Kingma and Ba in 2014", "history: arXiv 1412.6980, and ICLR 2015"),
    ("It is now the default for large models (e.g., Transformers)", "usage is a question for a survey"),
)
