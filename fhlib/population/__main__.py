"""`python -m fhlib.population FOLDER`: draw a population, and with `--scans` simulate its scans, for as long as it takes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fhlib.phantom.scan import ANY
from fhlib.population.drawn.errors import segmentor_error
from fhlib.population.drawn.protocol import CONDITIONS, HEALTHY, Protocol
from fhlib.population.drawn.scans import simulate_visits
from fhlib.population.drawn.visits import SUBJECTS, write_population


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m fhlib.population", description="Draw a population by protocol.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--subjects", type=int, default=1000)
    parser.add_argument(
        "--visits", nargs="+", default=["14-22", "22-31", "31-40"], help="weeks of each visit: 14-22 22-31"
    )
    parser.add_argument(
        "--condition", nargs=2, action="append", default=[], metavar=("NAME", "SHARE"), help=", ".join(CONDITIONS)
    )
    parser.add_argument("--sites", nargs="+", default=[ANY])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--scans", action="store_true", help="simulate the scans of the folder's visits, drawn before or now"
    )
    parser.add_argument("--spacing-mm", type=float, default=1.0)
    parser.add_argument("--most", type=int, default=None, help="how many subjects are scanned at most")
    options = parser.parse_args(arguments)
    try:
        if not (options.scans and (options.folder / SUBJECTS).exists()):
            population = write_population(options.folder, _protocol(options), segmentor_error())
            print(f"{options.subjects} subjects, {len(population)} visits: subjects.csv (truth), measurements.csv")
        if options.scans:
            cohort = simulate_visits(options.folder, options.spacing_mm, most=options.most)
            print(f"{len(cohort.table)} scans: cohort.csv")
    except (ValueError, OSError) as error:
        print(f"population: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command with --scans goes on", file=sys.stderr)
        return 130
    return 0


def _protocol(options: argparse.Namespace) -> Protocol:
    visits = []
    for text in options.visits:
        try:
            low, high = (float(part) for part in text.split("-"))
        except ValueError:
            raise ValueError(f"visit {text!r} is not two weeks, as in 14-22") from None
        visits.append((low, high))
    try:
        conditions = {name: float(share) for name, share in options.condition}
    except ValueError:
        raise ValueError(f"a share of {options.condition} is no number, as in --condition {HEALTHY} 0.1") from None
    return Protocol(options.subjects, tuple(visits), conditions, tuple(options.sites), seed=options.seed)


if __name__ == "__main__":
    sys.exit(main())
