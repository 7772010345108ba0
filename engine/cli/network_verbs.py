"""The verbs about networks: their sizes and results, export, import, and changes of genotypes.

Each function gets the name of its verb and the words after it, and returns the exit code.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from engine import api
from engine.architecture.network import is_named, named_network
from engine.architecture.placement import RULES
from engine.cli.parser import add_arrangement, verb_parser
from engine.command import program
from engine.errors import ConfigError


def describe(verb: str, arguments: list[str]) -> int:
    """Print the number of parameters and of multiply-adds (MACs) of a network."""
    parser = verb_parser(verb)
    parser.add_argument("genotype", help="a catalogue name, a genotype as JSON, or a hand-made network like resnet-18")
    parser.add_argument("--channels", type=int, help="channels C of the first cells (default 64)")
    parser.add_argument("--layers", type=int, help="number of cells (default 20)")
    parser.add_argument("--classes", type=int, default=10, help="number of classes (default 10)")
    parser.add_argument("--image-size", type=int, default=32, help="height and width in pixels (default 32)")
    parser.add_argument("--image-channels", type=int, default=3, help="channels of an image (default 3)")
    add_arrangement(parser, "as published with the genotype", default="")
    parser.add_argument("--auxiliary", action="store_true", help="count the auxiliary head too")
    options = parser.parse_args(arguments)
    shape = (options.image_channels, options.image_size, options.image_size)
    if is_named(options.genotype):
        for name in ("channels", "layers", "placement", "width_ratio", "auxiliary"):
            given = getattr(options, name)
            if given is not None and given is not False and given != "":
                raise ConfigError(f"{name} cannot be chosen for {options.genotype}, which has its own, got {given}; "
                                  "leave it out.")
    genotype, numbers = api.describe(options.genotype, channels=64 if options.channels is None else options.channels,
                                     layers=20 if options.layers is None else options.layers, classes=options.classes,
                                     image_shape=shape, auxiliary=options.auxiliary, placement=options.placement,
                                     width_ratio=options.width_ratio)
    if options.json:
        print(json.dumps(numbers))
    else:
        name, code = ((f"genotype {genotype.hash}", f"\n{genotype.to_json()}") if genotype else
                      (named_network(options.genotype).source, ""))
        print(f"{options.genotype[:40]}  {name}\nparameters  {numbers['parameters'] / 1e6:.3f} M"
              f"\nMACs        {numbers['macs'] / 1e6:.2f} M for an image of {'x'.join(map(str, shape))}{code}")
    return 0


def export(verb: str, arguments: list[str]) -> int:
    """Write a network or runs to files."""
    from engine.cli import exports

    return exports.export(verb_parser(verb), arguments)


def paper(verb: str, arguments: list[str]) -> int:
    """Write a paper pack, an archive with the tables and figures of a study or of runs."""
    from engine.cli import paper as pack

    return pack.paper(verb_parser(verb), arguments)


def transplant(verb: str, arguments: list[str]) -> int:
    """Print a copy of a genotype in which cells are replaced or swapped."""
    parser = verb_parser(verb)
    parser.add_argument("genotype", help="a catalogue name, a genotype as JSON, or the id of a run")
    parser.add_argument("--copy", action="append", default=[], metavar="SOURCE:TARGET",
                        help="replace the cell TARGET by SOURCE; GENOTYPE.SOURCE:TARGET takes another genotype's cell")
    parser.add_argument("--swap", action="append", default=[], metavar="KIND:KIND", help="swap two cells")
    parser.add_argument("--everywhere", metavar="KIND", help="one cell at all positions except the reductions")
    options = parser.parse_args(arguments)
    transplanted = api.transplant(options.genotype, copy=options.copy, swap=options.swap, everywhere=options.everywhere,
                                  runs=options.runs)
    print(transplanted.to_json())
    return 0


def whatif(verb: str, arguments: list[str]) -> int:
    """Print the size of a changed genotype, and its accuracy with the weights of a search."""
    from engine.cli import whatif as change

    parser = verb_parser(verb)
    parser.add_argument("search", help="id of a search that has ended, whose weights are inherited")
    parser.add_argument("--genotype", metavar="TEXT", help="a catalogue name, a genotype as JSON, or the id of a run (default: "
                        "what the search found)")
    parser.add_argument("--swap", action="append", default=[], metavar="CELL.EDGE.OPERATION",
                        help="another operation on an edge, like robust.3.skip_connect; repeat it for several. Edges are counted "
                             "from 0")
    parser.add_argument("--channels", type=int, default=64, help="channels C of the network whose size is printed (default 64)")
    parser.add_argument("--layers", type=int, default=20, help="its number of cells (default 20)")
    options = parser.parse_args(arguments)
    return change.whatif(options.search, options.genotype or options.search, options.swap, options.channels, options.layers,
                         options.runs, options.json)


def import_file(verb: str, arguments: list[str]) -> int:
    """Turn a file that public code has written into a finished run."""
    from engine.exchange import entry
    from engine.exchange.forms import FORMS

    parser = verb_parser(verb)
    parser.add_argument("path", type=Path, help="the file to import")
    parser.add_argument("--as", dest="form", choices=list(FORMS), default=None,
                        help="; ".join(f"{name}: {text}" for name, text in FORMS.items()) + " (default: from the file extension)")
    parser.add_argument("--name", help="name of the genotype, if the file has several")
    parser.add_argument("--genotype", help="genotype of a checkpoint: a catalogue name, JSON, or the id of a run")
    parser.add_argument("--dataset", help="dataset of the search or training; required for a checkpoint")
    parser.add_argument("--placement", choices=list(RULES), help="position rule of a checkpoint's cells (default: that "
                        "of the run that --genotype names, else the published one)")
    parser.add_argument("--title", help="name of the run")
    parser.add_argument("--mean", type=float, nargs="+", help="mean that training subtracted from pixels (0..1), per channel")
    parser.add_argument("--std", type=float, nargs="+", help="standard deviation that it divided by, per channel")
    options = parser.parse_args(arguments)
    run_id = entry.take(api.runs_root(options.runs), options.path, options.form, name=options.name,
                        genotype=options.genotype, dataset=options.dataset, placement=options.placement,
                        title=options.title, mean=options.mean, std=options.std,
                        command=f"{program()} {shlex.join([verb, *arguments])}")
    print(json.dumps({"id": run_id}) if options.json else run_id)
    return 0


def compare(verb: str, arguments: list[str]) -> int:
    """Print a comparison of the results and settings of runs."""
    from engine.cli import results

    parser = verb_parser(verb)
    parser.add_argument("run", nargs="*", help="ids of two or more runs; attacks under one protocol are also tested")
    parser.add_argument("--attack", default="worst-case", metavar="NAME",
                        help="result to compare: natural, an attack such as pgd-20, or worst-case (default)")
    options = parser.parse_args(arguments)
    return results.compare(options.run, options.attack, options.runs, options.json)


def robustness_table(verb: str, arguments: list[str]) -> int:
    """Print the robustness table of a protocol, or write it to a file."""
    from engine.cli import results

    parser = verb_parser(verb)
    parser.add_argument("--protocol", metavar="HASH", help="protocol of the table, or the beginning of its hash (needed only "
                        "where there are several)")
    texts = "; ".join(f"{name}: {form.text}" for name, form in results.FORMATS.items())
    parser.add_argument("--format", choices=list(results.FORMATS),
                        help=f"{texts} (default: by the extension of --out, else markdown)")
    parser.add_argument("--out", metavar="FILE", type=Path, help="the file to write (default: print)")
    parser.add_argument("--older", action="store_true", help="below each network, list its other results under the protocol; "
                        "without this option, a network has one row: its newest complete result")
    options = parser.parse_args(arguments)
    return results.table(options.protocol, options.format, options.out, options.runs, options.json, options.older)


def report(verb: str, arguments: list[str]) -> int:
    """Write the report of an attacked network."""
    from engine.cli import results

    parser = verb_parser(verb)
    parser.add_argument("run", help="id of an attack")
    parser.add_argument("--out", metavar="FILE.html", required=True, type=Path, help="the file to write")
    options = parser.parse_args(arguments)
    return results.report(options.run, options.out, options.runs, options.json)
