"""When to use Adam, and when SGD."""

from __future__ import annotations

import numpy as np

from adamite.lab.claims import contrasts
from adamite.lab.claims.claim import Claim, Finding, across, plainly
from adamite.lab.claims.contrasts import shown, sign
from adamite.lab.claims.lab import FEW, Lab
from adamite.lab.compare import statistics
from adamite.lab.page import Table

FOUR = ["sgd", "momentum", "rmsprop", "adam"]


def default(lab: Lab) -> Finding:
    cases: dict[str, bool | None] = {}
    rows = []
    for name in lab.present(("mnist", "characters", "gan", "embeddings", "digits")):
        compared = lab.compare(name, FOUR)
        as_good_as_the_best = compared.ties()
        cases[name] = as_good_as_the_best.get("adam", False)
        first = compared.ranked()[0].entrant.name
        rows.append((name, *(contrasts.shown_end(r) for r in compared.results), first, "yes" if cases[name] else "no"))
    verdict, condition = across(cases)
    alike = sum(map(bool, cases.values()))
    figures = (
        f"the best of four, or not told from it, on {alike} of {len(cases)}: {', '.join(n for n in cases if cases[n])}"
    )
    words = "There is no transformer among the problems."
    headers = "problem", *FOUR, "best", "Adam alike"
    return Finding(verdict, figures, Table(headers, rows), condition, words, lab.command("gan", FOUR))


def small(lab: Lab) -> Finding:
    return contrasts.better(lab, "sgd", "adam", [FEW], seeds=2 * lab.seeds)


def policy(lab: Lab) -> Finding:
    lab.present(["cartpole"])
    compared = lab.compare("cartpole", ["sgd", "adam"], seeds=2 * lab.seeds)
    sgd, adam = (contrasts.costs(result, compared.plan.seeds) for result in compared.results)
    ratio = statistics.contrast(adam, sgd, "ratio", of=np.std)
    rows = []
    for result in compared.results:
        final = result.final()
        spread = f"{np.std(result.costs()):.3g}"
        rows.append((result.entrant.name, f"{final.median:.0f} ({final.low:.0f} to {final.high:.0f})", spread))
    figures = f"deviation of the return over seeds, Adam's over SGD's: {shown(ratio)}"
    words = f"The median returns are {rows[0][1]} with SGD and {rows[1][1]} with Adam, of 500."
    table = Table(("optimizer", "return", "deviation over seeds"), rows)
    return Finding(
        plainly(sign(ratio, 1)), figures, table, words=words, command=lab.command("cartpole", ["sgd", "adam"])
    )


CLAIMS = (
    Claim(
        "default-choice",
        "When to Use Adam",
        "Default choice for most deep learning tasks (CNNs, Transformers, GANs)",
        "Of SGD, momentum, RMSprop and Adam, all tuned, Adam ends best or can't be told from the best (Mann and "
        "Whitney's test, corrected).",
        default,
    ),
    Claim(
        "sgd-small",
        "When to Use SGD Instead",
        "Small datasets (SGD generalizes better)",
        "With 160 digits to train on, SGD reads the test scans better than Adam, both tuned: the interval of the "
        "difference above 0; twice as many seeds.",
        small,
    ),
    Claim(
        "sgd-policy",
        "When to Use SGD Instead",
        "Reinforcement learning (more stable for policy gradient methods)",
        "On a pole on a cart the return's deviation over the seeds is smaller with SGD, both tuned: the interval of "
        "the ratio above 1; twice as many seeds.",
        policy,
    ),
)
