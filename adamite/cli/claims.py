"""What the article claims, put to the test."""

from __future__ import annotations

import contextlib
import shlex
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from adamite.cli.terminal import app, out, progress_bar

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
    """Put each claim of the article to the test: holds, holds when, does not hold here.

    What was trained is kept in a study, so that a run that was stopped goes on.
    """
    from adamite.lab.claims import CLAIMS, write
    from adamite.lab.claims import lab as labs
    from adamite.lab.compare import workers
    from adamite.lab.compare.study import Study
    from adamite.settings import unknown

    names = list(dict.fromkeys(name.strip() for name in only.split(",") if name.strip()))
    known = [claim.slug for claim in CLAIMS]
    for name in names:
        if name not in known:
            raise typer.BadParameter(unknown("claims", name, known, "claim"), param_hint="'--only'")
    wanted = [claim for claim in CLAIMS if not names or claim.slug in names]
    if quick:
        budget, seeds = min(budget, 2), min(seeds, 2)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        study = Study(folder / "study.sqlite")
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'--out'") from None
    begin, findings = time.perf_counter(), {}
    lab = labs.Lab(study, jobs or workers.cores(), budget, seeds, quick)
    with contextlib.closing(lab), progress_bar() as progress:
        for done, claim in enumerate(wanted):

            def tell(what: str, share: float, done: int = done, slug: str = claim.slug) -> None:
                progress(round(100 * (done + share)), 100 * len(wanted), f"{slug}: {what}")

            lab.tell = tell
            tell("", 0)
            findings[claim.slug] = labs.run(claim, lab)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("claim", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("figures")
    for slug, finding in findings.items():
        table.add_row(slug, finding.verdict, finding.figures)
    out.print(table)
    words = ["adamite", "claims", *(["--only", ",".join(names)] if names else [])]
    words += ["--quick"] if quick else ["--budget", str(budget), "--seeds", str(seeds)]
    path = folder / "claims.md"
    path.write_text(write.page(findings, lab, shlex.join(words)), encoding="utf-8")
    out.print(f"Page: {path}", soft_wrap=True)
    out.print(f"{len(findings)} claims, {time.perf_counter() - begin:.0f} s.")
