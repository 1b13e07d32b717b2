"""The command that tests the article's claims: claims."""

from __future__ import annotations

import contextlib
import functools
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from adamite.cli.options import Jobs
from adamite.cli.terminal import Tell, app, duration, err, out, output_folder, progress_bar, writing
from adamite.errors import counted

if TYPE_CHECKING:
    from adamite.lab.claims.claim import Claim, Finding
    from adamite.lab.claims.lab import Lab

FOLDER = Path("adamite-claims")


@app.command()
def claims(
    only: Annotated[str, typer.Option(metavar="CLAIM,CLAIM", help="Only these; all, if none is named.")] = "",
    budget: Annotated[int, typer.Option(min=1, max=1000, help="Settings tried for each optimizer.")] = 10,
    seeds: Annotated[int, typer.Option(min=2, max=1000, help="Trainings of each with its best settings.")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="Short trainings, whose verdicts mean nothing.")] = False,
    jobs: Jobs = 0,
    folder: Annotated[Path, typer.Option("--out", file_okay=False, help="For the study and the page.")] = FOLDER,
) -> None:
    """Test the claims of an article on Adam.

    The article is the tutorial "Adam Optimizer". Each of its claims holds, holds when a condition is met, or does not
    hold here. Trainings are stored in a study, so an interrupted run can be resumed.
    """
    from adamite.lab.claims.lab import Lab
    from adamite.lab.compare import workers
    from adamite.lab.compare.study import Study, StudyError

    names = list(dict.fromkeys(name.strip() for name in only.split(",") if name.strip()))
    wanted = _claims(names)
    if quick:
        budget, seeds = min(budget, 2), min(seeds, 2)
    with writing(output_folder(folder)):
        study = Study(folder / "study.sqlite")
    begin = time.perf_counter()
    lab = Lab(study, jobs or workers.cores(), budget, seeds, quick)
    with writing(folder, kind=StudyError), contextlib.closing(lab):
        findings = _findings(wanted, lab, folder / "study.sqlite")
    _print(findings, quick)
    words = ["--quick"] if quick else ["--budget", str(budget), "--seeds", str(seeds)]
    pages = {slug: {slug: finding} for slug, finding in findings.items()} if names else {"claims": findings}
    for name, on_page in pages.items():
        command = ["adamite", "claims", *(["--only", name] if names else []), *words]
        _write(folder / f"{name}{'-quick' * quick}.md", on_page, lab, shlex.join(command))
    out.print(f"{counted(len(findings), 'claim')}, {duration(time.perf_counter() - begin)}.")


def _claims(names: Sequence[str]) -> list[Claim]:
    """The claims of these names; all, if there are none."""
    from adamite.frontend.settings import unknown
    from adamite.lab.claims import CLAIMS

    slugs = [claim.slug for claim in CLAIMS]
    for name in names:
        if name not in slugs:
            said = unknown("the article", name, slugs, "claim").replace("? It takes ", "?\nThe claims: ")
            raise typer.BadParameter(said, param_hint="'--only'")
    return [claim for claim in CLAIMS if not names or claim.slug in names]


def _findings(claims: Sequence[Claim], lab: Lab, study: Path) -> dict[str, Finding]:
    """Test the claims, one after another, and show the progress."""
    from adamite.lab.claims.claim import run
    from adamite.lab.claims.length import expected

    lengths = expected([claim.slug for claim in claims], lab.budget, lab.seeds, lab.quick)
    err.print(
        f"{counted(len(claims), 'claim')}: about {duration(sum(lengths))} on two cores. "
        f"Trainings in {study} aren't repeated."
    )
    findings = {}
    with progress_bar() as progress:
        for number, claim in enumerate(claims):
            now = f"{number + 1}/{len(claims)} {claim.slug}"
            lab.tell = functools.partial(_tell, progress, lengths, number, now)
            lab.tell("", 0)
            findings[claim.slug] = run(claim, lab)
            if not err.is_terminal:
                err.print(f"{now}: {findings[claim.slug].verdict}")
    return findings


def _tell(progress: Tell, lengths: Sequence[float], number: int, now: str, what: str, share: float) -> None:
    """Report the progress of all claims, when this fraction of the claim of this number is done."""
    done = sum(lengths[:number]) + share * lengths[number]
    progress(done, sum(lengths), f"{now}: {what}" if what else now)


def _print(findings: Mapping[str, Finding], quick: bool) -> None:
    from adamite.lab.claims import write

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("claim", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("figures")
    for slug, finding in findings.items():
        table.add_row(slug, finding.verdict, finding.figures)
    if quick:
        out.print(write.QUICK, style="bold")
    out.print(table)


def _write(path: Path, findings: Mapping[str, Finding], lab: Lab, command: str) -> None:
    from adamite.lab.claims import write

    with writing(path.parent):
        path.write_text(write.page(findings, lab, command), encoding="utf-8")
    out.print(f"Page: {path}", soft_wrap=True)
