"""The verb `export`, which writes networks or runs to files: weights, modules, genotypes, reports, folders for other trackers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from engine import api
from engine.cli.parser import Parser, add_arrangement
from engine.errors import ConfigError
from engine.exchange import source, writing
from engine.exchange.forms import EXPORTS
from engine.files import atomic_write_bytes
from engine.requests import runs_root

OLDER_NAMES = {"json": "genotype"}  # of forms, in commands of earlier versions


def export(parser: Parser, arguments: list[str]) -> int:
    """Run the verb `export` and return the exit code.

    Args:
        parser: parser with the options that all verbs have.
        arguments: words after the verb.

    Raises:
        RampartError: the network or a run does not exist or cannot be exported in this form. The message is a sentence.
    """
    options = _parsed(parser, arguments)
    form, root = EXPORTS[options.form], runs_root(options.runs)
    if len(options.what) > 1 and options.form not in FOLDERS:
        raise ConfigError(f"An export as {options.form} takes one network or run, got {len(options.what)}; export them one by "
                          f"one. Several runs fit in {' or '.join(FOLDERS)}.")
    if options.form in FOLDERS:
        files, facts = FOLDERS[options.form](options, root), {"runs": options.what}
    elif form.of_run:
        files, facts = _report(options, root)
    else:
        files, facts = _network(options, root)
    print(json.dumps({"files": list(map(str, files)), **facts}) if options.json else "\n".join(map(str, files)))
    return 0


def _parsed(parser: Parser, arguments: list[str]) -> argparse.Namespace:
    parser.add_argument("what", nargs="+", help="id of a run, a catalogue name, a genotype as JSON, or the name of a hand-made "
                        f"network such as resnet-18; several runs for {' and '.join(FOLDERS)}")
    texts = "; ".join(f"{name}: {form.text}" for name, form in EXPORTS.items())
    parser.add_argument("--form", "--format", dest="form", choices=list(EXPORTS), default="genotype", metavar="FORM",
                        type=lambda name: OLDER_NAMES.get(name, name), help=f"{texts} (default genotype)")
    parser.add_argument("--out", metavar="FILE", type=Path, help="the file or folder to write (default: named after the run, in "
                        "the current folder)")
    parser.add_argument("--channels", type=int, help="channels C of the first cells (default 64; a retrained network's own)")
    parser.add_argument("--layers", type=int, help="number of cells (default 20; a retrained network's own)")
    parser.add_argument("--classes", type=int, help="number of classes (default 10; a run's own)")
    parser.add_argument("--image-shape", type=int, nargs=3, metavar=("CHANNELS", "HEIGHT", "WIDTH"),
                        help="shape of an image (default 3 32 32; a run's own)")
    add_arrangement(parser, "a run's own, else as published with the genotype")
    return parser.parse_args(arguments)


def _network(options: argparse.Namespace, root: Path) -> tuple[list[Path], dict[str, str | None]]:
    """Write the files of a network. Return (paths of the files, further entries for the JSON output)."""
    found = source.find(options.what[0], root, channels=options.channels, layers=options.layers, classes=options.classes,
                        image_shape=options.image_shape, placement=options.placement, width_ratio=options.width_ratio)
    out = options.out or Path(EXPORTS[options.form].name_for(found.title))
    return writing.write(found, options.form, out), {"hash": found.genotype_hash}


def _report(options: argparse.Namespace, root: Path) -> tuple[list[Path], dict[str, str | None]]:
    """Write the report of the newest attack on a run's network. Return ([path of the report], {"attack": id of the attack})."""
    attack, content = api.newest_report(options.what[0], runs=root)
    out = options.out or Path(EXPORTS[options.form].name_for(attack))
    try:
        atomic_write_bytes(out, content)
    except OSError as problem:
        raise ConfigError(f"The report could not be written to {out} ({problem.strerror or problem}); choose another --out."
                          ) from None
    return [out], {"attack": attack}


def _tensorboard(options: argparse.Namespace, root: Path) -> list[Path]:
    from engine.exchange.tensorboard import write_tensorboard

    return write_tensorboard(root, options.what, _folder(options))


def _mlflow(options: argparse.Namespace, root: Path) -> list[Path]:
    from engine.exchange.mlflow import write_mlflow

    return write_mlflow(root, options.what, _folder(options))


def _folder(options: argparse.Namespace) -> Path:
    out: Path | None = options.out
    return out or Path(EXPORTS[options.form].name_for(options.what[0] if len(options.what) == 1 else "runs"))


FOLDERS: dict[str, Callable[[argparse.Namespace, Path], list[Path]]] = {"tensorboard": _tensorboard, "mlflow": _mlflow}
