"""Table 1 of the paper with a small network in AlexNet's place: what a detector gains from the transfer.

Runs every command of the table that is not finished yet, a given number at once, and prints the table. Run it again to
go on after an interruption, or with more seeds.

    python benchmarks/table1.py --data data/nyud2 --weights squeezenet1_1-imagenet.pth --seeds 0 1 2 --at-once 2
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from campaign import Job, figures, finished, mean_and_each, needed, run_all

from xmodal_cli.metrics.paper import paper_table

ROWS = {
    "1A": "HHA: no initialisation",
    "1B": "HHA: copied from RGB",
    "1C": "HHA: transferred",
    "1D": "HHA: transferred from a finetuned teacher",
    "2A": "HHA, frozen: copied from RGB",
    "2B": "HHA, frozen: transferred (1D's)",
    "3A": "RGB alone",
    "3B": "RGB + HHA copied",
    "3C": "RGB + HHA transferred (1D's)",
}
FUSED = {"3B": ("3A", "1B"), "3C": ("3A", "1D")}


def jobs(options: argparse.Namespace, seed: int) -> dict[str, Job]:
    """Every command of one seed, by a name of its own."""
    network, runs = options.backbone, options.runs
    found: dict[str, Job] = {}

    def distill(name: str, teacher: Sequence[str], after: tuple[str, ...] = ()) -> None:
        words = ["distill", *teacher, "--student", network, "--modality", "hha", *options.distill.split()]
        found[f"{name}-{seed}"] = Job(
            [*words, "--run-name", f"{name}-{seed}"], finished(runs, "distill", name, seed), after
        )

    def finetune(row: str, words: Sequence[str], after: tuple[str, ...] = ()) -> None:
        line = ["finetune", *words, "--run-name", f"{row}-{seed}", *options.finetune.split()]
        found[f"{row}-{seed}"] = Job(line, finished(runs, "finetune", row, seed), after)

    copied = ["--init", "imagenet", "--backbone", network, "--weights", str(options.weights)]
    plain = ["--teacher", network, "--teacher-weights", str(options.weights)]
    from_run = {name: ["--init", str(runs / "distill" / f"{name}-{seed}")] for name in ("student", "student-finetuned")}
    hha, frozen = ["--modality", "hha"], ["--freeze-through", options.layer]
    finetune("3A", ["--modality", "rgb", *copied])
    finetune("1A", [*hha, "--init", "random", "--backbone", network])
    finetune("1B", [*hha, *copied])
    distill("student", plain)
    finetune("1C", [*hha, *from_run["student"]], (f"student-{seed}",))
    distill("student-finetuned", ["--teacher-run", str(runs / "finetune" / f"3A-{seed}")], (f"3A-{seed}",))
    finetune("2A", [*hha, *copied, *frozen])
    finetune("1D", [*hha, *from_run["student-finetuned"]], (f"student-finetuned-{seed}",))
    finetune("2B", [*hha, *from_run["student-finetuned"], *frozen], (f"student-finetuned-{seed}",))
    for row in ROWS:
        scored = [f"{each}-{seed}" for each in FUSED.get(row, (row,))]
        words = ["evaluate", *(str(runs / "finetune" / each) for each in scored), "--split", "val", "--json"]
        found[f"score {row}-{seed}"] = Job(words, scores(runs, row, seed), tuple(scored))
    shared = ["--data", str(options.data), "--runs", str(runs)]
    training = ["--seed", str(seed), "--threads", "1"]
    return {
        name: Job(job.words + shared + ([] if job.words[0] == "evaluate" else training), job.done, job.after)
        for name, job in found.items()
    }


def scores(runs: Path, row: str, seed: int) -> Path:
    """Where the figures of a row are kept."""
    return runs / "table1" / f"{row}-{seed}.json"


def table(runs: Path, seeds: Sequence[int]) -> str:
    """The rows that are there, mean and range over seeds, the paper's beside."""
    paper = paper_table("table1")
    lines = ["| | | mAP (each seed) | paper |", "|---|---|---|---|"]
    for row, what in ROWS.items():
        found = [each["mAP"] for seed in seeds if (each := figures(scores(runs, row, seed)))]
        if found:
            lines.append(f"| {row} | {what} | {mean_and_each(found)} | {paper[row].mAP} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/nyud2"))
    parser.add_argument("--weights", type=Path, required=True, help="ImageNet weights of the backbone")
    parser.add_argument("--backbone", default="squeezenet1_1")
    parser.add_argument("--layer", default="features", help="the layer that regions are cut from")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--at-once", type=int, default=1, help="commands side by side, one thread each")
    parser.add_argument("--distill", default="", help="further options of every transfer")
    parser.add_argument("--finetune", default="", help="further options of every detector")
    parser.add_argument("--only-table", action="store_true", help="print what is there, run nothing")
    options = parser.parse_args()
    if not options.only_table:
        every = {name: job for seed in options.seeds for name, job in jobs(options, seed).items()}
        wanted = [f"score {row}-{seed}" for seed in options.seeds for row in options.rows]
        run_all(needed(every, wanted), options.at_once)
    print(table(options.runs, options.seeds))


if __name__ == "__main__":
    main()
