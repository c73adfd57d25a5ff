"""Table 4 of the paper with a small network: where to transfer. Explained variance, probe and AP for each layer.

A student is taught at each layer; the layers above are random until the detector learns them.

    python benchmarks/table4.py --data data/nyud2 --weights squeezenet1_1-imagenet.pth --at-once 2
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from campaign import Job, figures, finished, run_all

LAYERS = ("features.3", "features.5", "features.7", "features.10", "features")


def jobs(options: argparse.Namespace) -> dict[str, Job]:
    """Every command, by a name of its own."""
    found: dict[str, Job] = {}
    shared = ["--data", str(options.data), "--runs", str(options.runs)]
    training = [*shared, "--seed", str(options.seed), "--threads", "1"]
    for layer in options.layers:
        name = f"{layer}-{options.seed}"
        student, detector = (finished(options.runs, kind, layer, options.seed) for kind in ("distill", "finetune"))
        network = [
            "--teacher",
            options.backbone,
            "--teacher-weights",
            str(options.weights),
            "--student",
            options.backbone,
        ]
        words = ["distill", *network, "--modality", "hha", "--transfer", layer, *options.distill.split()]
        found[f"student {name}"] = Job([*words, "--run-name", name, *training], student)
        words = ["evaluate", str(student.parent), "--probe", "--json", *shared]
        found[f"probe {name}"] = Job(words, scores(options, "probe", layer), (f"student {name}",))
        words = ["finetune", "--modality", "hha", "--init", str(student.parent), *options.finetune.split()]
        found[name] = Job([*words, "--run-name", name, *training], detector, (f"student {name}",))
        words = ["evaluate", str(detector.parent), "--split", "val", "--json", *shared]
        found[f"score {name}"] = Job(words, scores(options, "detector", layer), (name,))
    return found


def scores(options: argparse.Namespace, kind: str, layer: str) -> Path:
    """Where the figures of a layer are kept."""
    return Path(options.runs) / "table4" / f"{kind}-{layer}-{options.seed}.json"


def table(options: argparse.Namespace) -> str:
    """The layers that are there."""
    lines = ["| transfer at | explained variance | probe | mAP |", "|---|---|---|---|"]
    for layer in options.layers:
        card = finished(options.runs, "distill", layer, options.seed)
        probed, scored = (figures(scores(options, kind, layer)) for kind in ("probe", "detector"))
        if probed and scored:
            explained = json.loads(card.read_text())["metrics"]["explained_variance"]
            lines.append(f"| {layer} | {explained:.1%} | {probed['probe']['accuracy']:.1f} | {scored['mAP']:.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/nyud2"))
    parser.add_argument("--weights", type=Path, required=True, help="ImageNet weights of the backbone")
    parser.add_argument("--backbone", default="squeezenet1_1")
    parser.add_argument("--layers", nargs="+", default=list(LAYERS))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", type=int, default=1, help="commands side by side, one thread each")
    parser.add_argument("--distill", default="", help="further options of every transfer")
    parser.add_argument("--finetune", default="", help="further options of every detector")
    options = parser.parse_args()
    run_all(jobs(options), options.at_once)
    print(table(options))


if __name__ == "__main__":
    main()
