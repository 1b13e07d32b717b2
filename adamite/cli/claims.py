"""What the article claims, put to the test."""

from __future__ import annotations

import contextlib
import functools
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from adamite.cli.terminal import Tell, app, duration, err, out, output_folder, progress_bar, writing
from adamite.errors import counted

FOLDER = Path("adamite-claims")


@app.command()
def claims(
    only: Annotated[str, typer.Option(metavar="CLAIM,CLAIM", help="These alone; all, if none is named.")] = "",
    budget: Annotated[int, typer.Option(min=1, max=1000, help="Settings tried for each optimizer.")] = 10,
    seeds: Annotated[int, typer.Option(min=2, max=1000, help="Trainings of each with its best settings.")] = 5,
    quick: Annotated[
        bool, typer.Option("--quick", help="A look: short trainings, whose verdicts mean nothing.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=0, help="Processes; 0: one a core.")] = 0,
    folder: Annotated[Path, typer.Option("--out", file_okay=False, help="For the study and the page.")] = FOLDER,
) -> None:
    """Put the claims of an article on Adam to the test.

    The article is the tutorial "Adam Optimizer". Each of its claims holds, holds when something is so, or does not
    hold here. What was trained is kept in a study, so that a run that was stopped goes on.
    """
    from adamite.frontend.settings import unknown
    from adamite.lab.claims import CLAIMS, write
    from adamite.lab.claims.claim import run
    from adamite.lab.claims.lab import Lab
    from adamite.lab.claims.length import expected
    from adamite.lab.compare import workers
    from adamite.lab.compare.study import Study, StudyError

    names = list(dict.fromkeys(name.strip() for name in only.split(",") if name.strip()))
    known = [claim.slug for claim in CLAIMS]
    for name in names:
        if name not in known:
            said = unknown("the article", name, known, "claim").replace("? It takes ", "?\nThe claims: ")
            raise typer.BadParameter(said, param_hint="'--only'")
    wanted = [claim for claim in CLAIMS if not names or claim.slug in names]
    if quick:
        budget, seeds = min(budget, 2), min(seeds, 2)
    with writing(output_folder(folder)):
        study = Study(folder / "study.sqlite")
    begin, findings = time.perf_counter(), {}
    lab = Lab(study, jobs or workers.cores(), budget, seeds, quick)
    lengths = expected([claim.slug for claim in wanted], budget, seeds, quick)
    err.print(
        f"{counted(len(wanted), 'claim')}: about {duration(sum(lengths))} on two cores. "
        f"What {folder / 'study.sqlite'} has isn't trained again."
    )
    with writing(folder, kind=StudyError), contextlib.closing(lab), progress_bar() as progress:
        for number, claim in enumerate(wanted):
            now = f"{number + 1}/{len(wanted)} {claim.slug}"
            lab.tell = functools.partial(_tell, progress, lengths, number, now)
            lab.tell("", 0)
            findings[claim.slug] = run(claim, lab)
            if not err.is_terminal:
                err.print(f"{now}: {findings[claim.slug].verdict}")
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("claim", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("figures")
    for slug, finding in findings.items():
        table.add_row(slug, finding.verdict, finding.figures)
    if quick:
        out.print(write.QUICK, style="bold")
    out.print(table)
    words = ["--quick"] if quick else ["--budget", str(budget), "--seeds", str(seeds)]
    pages = {slug: {slug: finding} for slug, finding in findings.items()} if names else {"claims": findings}
    for name, those in pages.items():
        page = folder / f"{name}{'-quick' * quick}.md"
        command = ["adamite", "claims", *(["--only", name] if names else []), *words]
        with writing(folder):
            page.write_text(write.page(those, lab, shlex.join(command)), encoding="utf-8")
        out.print(f"Page: {page}", soft_wrap=True)
    out.print(f"{counted(len(findings), 'claim')}, {duration(time.perf_counter() - begin)}.")


def _tell(progress: Tell, lengths: Sequence[float], number: int, now: str, what: str, share: float) -> None:
    """How far it has come, when so much of the claim of this number is done."""
    done = sum(lengths[:number]) + share * lengths[number]
    progress(done, sum(lengths), f"{now}: {what}" if what else now)
