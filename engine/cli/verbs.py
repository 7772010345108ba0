"""The verbs of the command line, one function for each, and the table `VERBS` that maps names to functions."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from engine import __version__, api
from engine.architecture.network import is_named, named_network
from engine.architecture.placement import RULES
from engine.cli import flags, marks
from engine.cli.listing import answer_text, table_text
from engine.cli.parser import Parser, add_arrangement
from engine.command import NAME, ROOT, program
from engine.config.run import KINDS
from engine.errors import ConfigError, RampartError
from engine.grid import launches_of, runs_in
from engine.registry import unknown_name


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command of the command line and return the exit code.

    The exit codes are:

    * 0: the command succeeded.
    * 1: a run failed, or the verb `doctor` found a problem.
    * 2: the command was rejected with a message on stderr.
    * 130: the user interrupted a wait.

    Args:
        arguments: words after `rampart`; None for the arguments of this process.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(usage())
            return 0
        verb = arguments[0]
        if verb == "--version":
            print(f"{NAME} {__version__}")
            return 0
        if verb not in VERBS:
            raise ConfigError(unknown_name("command", verb, VERBS))
        return VERBS[verb].call(verb, arguments[1:])
    except RampartError as problem:
        print(problem, file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of the pipe, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as problem:  # a folder that cannot be written, or a full disk
        where = problem.filename or "a file in it"
        print(f"The runs folder must be readable and writable, and {where} is not ({problem.strerror or problem}); free some "
              "space, change its permissions or choose another folder (--runs DIR).", file=sys.stderr)
        return 2


def usage() -> str:
    """Return the help text of the command line, with one line for each verb."""
    lines = [f"  {name:<12}{verb.text}" for name, verb in VERBS.items()]
    return "\n".join(["usage: rampart VERB [options]", "", *lines, "", "`rampart VERB --help` lists the options of a verb."])


def _parser(verb: str) -> Parser:
    parser = Parser(verb, VERBS[verb].text)
    parser.add_argument("--runs", metavar="DIR", default=None, help="folder of all runs (default: $RAMPART_RUNS, else ./runs)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _ui(verb: str, arguments: list[str]) -> int:
    # The dashboard is started by its path, because the working folder may contain another folder called `app`.
    os.execv(sys.executable, [sys.executable, str(ROOT / "app"), *arguments])


def _launch(verb: str, arguments: list[str]) -> int:
    request = flags.parse(verb, arguments)
    root = api.runs_root(request.runs)
    launches = launches_of(request, request.grid, request.parent)
    chains = api.launch_all(launches, runs=root)
    ids = runs_in(chains)
    if request.wait:
        from engine.cli.waiting import wait

        return wait(ids, root, request.json)
    named = list(zip([one.name for one in launches], chains)) if request.grid.axes else []
    if request.json:
        told = [{"combination": name, "ids": chain} for name, chain in named]
        print(json.dumps({"ids": ids} | ({"chains": told} if named else {})))
    else:
        print(table_text([[name, *chain] for name, chain in named]) if named else "\n".join(ids))
    return 0


def _estimate(verb: str, arguments: list[str]) -> int:
    from engine.cli.estimates import estimate  # imports pandas, which most verbs do not need

    return estimate(verb, arguments)


def _stop(verb: str, arguments: list[str]) -> int:
    parser = _parser(verb)
    parser.add_argument("id", help="id of the run")
    parser.add_argument("--force", action="store_true", help="kill the process group; steps since the last checkpoint are lost")
    options = parser.parse_args(arguments)
    (api.force_stop if options.force else api.stop)(api.runs_root(options.runs), options.id)
    return _say_state(options)


def _resume(verb: str, arguments: list[str]) -> int:
    parser = _parser(verb)
    parser.add_argument("id", help="id of the run")
    parser.add_argument("--wait", action="store_true", help="stay and show progress until it is over")
    options = parser.parse_args(arguments)
    api.resume(api.runs_root(options.runs), options.id)
    if options.wait:
        from engine.cli.waiting import wait

        return wait([options.id], api.runs_root(options.runs), options.json)
    return _say_state(options)


def _say_state(options: argparse.Namespace) -> int:
    state = api.status(api.runs_root(options.runs), options.id)
    print(json.dumps({"id": options.id, **dataclasses.asdict(state)}) if options.json else f"{options.id}  {state.status}")
    return 0


def _queue(verb: str, arguments: list[str]) -> int:
    from engine.cli.queue import queue  # imports pandas, which most verbs do not need

    return queue(verb, arguments)


def _runs(verb: str, arguments: list[str]) -> int:
    from engine.cli.run_list import runs  # imports pandas, which most verbs do not need

    return runs(verb, arguments)


def _describe(verb: str, arguments: list[str]) -> int:
    parser = _parser(verb)
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


def _export(verb: str, arguments: list[str]) -> int:
    from engine.cli.exports import export

    return export(_parser(verb), arguments)


def _paper(verb: str, arguments: list[str]) -> int:
    from engine.cli.paper import paper

    return paper(_parser(verb), arguments)


def _transplant(verb: str, arguments: list[str]) -> int:
    parser = _parser(verb)
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


def _import(verb: str, arguments: list[str]) -> int:
    from engine.exchange import entry
    from engine.exchange.forms import FORMS

    parser = _parser(verb)
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


def _compare(verb: str, arguments: list[str]) -> int:
    from engine.cli import results

    parser = _parser(verb)
    parser.add_argument("run", nargs="*", help="ids of two or more runs; attacks under one protocol are also tested")
    parser.add_argument("--attack", default="worst-case", metavar="NAME",
                        help="result to compare: natural, an attack such as pgd-20, or worst-case (default)")
    options = parser.parse_args(arguments)
    return results.compare(options.run, options.attack, options.runs, options.json)


def _robustness_table(verb: str, arguments: list[str]) -> int:
    from engine.cli import results

    parser = _parser(verb)
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


def _report(verb: str, arguments: list[str]) -> int:
    from engine.cli import results

    parser = _parser(verb)
    parser.add_argument("run", help="id of an attack")
    parser.add_argument("--out", metavar="FILE.html", required=True, type=Path, help="the file to write")
    options = parser.parse_args(arguments)
    return results.report(options.run, options.out, options.runs, options.json)


def _sweep(verb: str, arguments: list[str]) -> int:
    from engine.cli import robustness

    parser = _parser(verb)
    parser.add_argument("run", help="id of a retraining, or of an attack whose norm, epsilon and images are taken")
    parser.add_argument("--radii", type=int, default=16, help="number of radii at which the curve is shown (default 16)")
    parser.add_argument("--wait", action="store_true", help="show progress, and print the curves at the end")
    options = parser.parse_args(arguments)
    return robustness.sweep(options.run, options.radii, api.runs_root(options.runs), options.wait, options.json)


def _transfer(verb: str, arguments: list[str]) -> int:
    from engine.cli import robustness

    parser = _parser(verb)
    parser.add_argument("run", nargs="+", help="ids of two or more retrainings on one dataset")
    parser.add_argument("--attack", choices=robustness.MAKERS, default=robustness.MAKERS[0],
                        help="attack that makes the images (default %(default)s)")
    options = parser.parse_args(arguments)
    return robustness.transfer(options.run, options.attack, api.runs_root(options.runs), options.json)


def _study(verb: str, arguments: list[str]) -> int:
    from engine.cli.studies import study  # imports pandas and scipy, which most verbs do not need

    return study(verb, arguments)


def _doctor(verb: str, arguments: list[str]) -> int:
    options = _parser(verb).parse_args(arguments)
    findings = api.doctor(runs=options.runs)
    if options.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings]))
    else:
        print(table_text([["ok" if one.good else "BAD", one.subject, one.found + ("" if one.good else f"  {one.advice}")]
                      for one in findings]))
    return 0 if all(one.good for one in findings) else 1


def _reindex(verb: str, arguments: list[str]) -> int:
    options = _parser(verb).parse_args(arguments)
    report = api.reindex(runs=options.runs)
    counts = {name: value for name, value in dataclasses.asdict(report).items() if isinstance(value, int)}
    words = ", ".join(f"{name} {value}" for name, value in counts.items())
    print(json.dumps(counts) if options.json else f"The index has been rebuilt ({words}).")
    return 0


def _schema(verb: str, arguments: list[str]) -> int:
    parser = _parser(verb)
    parser.add_argument("kind", nargs="?", choices=KINDS, default="search", help="kind of run (default search)")
    parser.add_argument("--method", help="search method (default arnas)")
    options = parser.parse_args(arguments)
    method = options.method or ("arnas" if options.kind == "search" else None)
    print(json.dumps(api.schema(options.kind, method), indent=None if options.json else 2))
    return 0


def _presets(verb: str, arguments: list[str]) -> int:
    from engine.cli.presets import presets_text

    parser = _parser(verb)
    parser.add_argument("kind", nargs="?", choices=KINDS, help="kind of run (default: all)")
    parser.add_argument("--method", help="search method (default: all)")
    parser.add_argument("--dataset", default="digits", help="dataset (default digits)")
    options = parser.parse_args(arguments)
    settings = api.presets(options.kind, options.method, options.dataset)
    print(json.dumps([dataclasses.asdict(setting) for setting in settings]) if options.json else presets_text(settings))
    return 0


def _sql(verb: str, arguments: list[str]) -> int:
    parser = _parser(verb)
    parser.add_argument("query", help="one statement that only reads, such as \"select * from folder\"; - reads it from stdin")
    parser.add_argument("--csv", action="store_true", help="print CSV")
    options = parser.parse_args(arguments)
    if options.csv and options.json:
        parser.error("--csv and --json exclude each other")
    answer = api.sql(sys.stdin.read() if options.query == "-" else options.query, runs=options.runs)
    form = "csv" if options.csv else "json" if options.json else "text"
    print(answer_text(answer.table, form, cut=answer.cut, seconds=round(answer.seconds, 3)))
    if answer.cut:
        print(f"Only the first {answer.table.num_rows:,} rows are shown; add a condition or LIMIT.", file=sys.stderr)
    return 0


def _dataset(verb: str, arguments: list[str]) -> int:
    parser = Parser(verb, VERBS[verb].text, epilog="Data folder: $RAMPART_DATA, else ~/.cache/rampart/data. An image folder with "
                    "one folder per class becomes a dataset by: dataset fetch NAME --from DIR --side 32")
    parser.add_argument("action", choices=("list", "fetch"), help="list: all datasets; fetch: download and prepare one")
    parser.add_argument("name", nargs="?", help="name of the dataset to fetch")
    parser.add_argument("--from", dest="source", metavar="DIR", help="folder of the official files, or of one folder per class")
    parser.add_argument("--side", type=int, help="height and width of an image folder's images in pixels (default 32)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--progress", action="store_true", help="print progress as lines of JSON: [activity, done, total]")
    options = parser.parse_args(arguments)
    if options.action == "fetch" and options.name:
        from engine.cli.waiting import fetched

        return fetched(options.name, options.source, options.side, options.json, options.progress)
    if options.action == "fetch" or options.name or options.source or options.side:
        parser.error("The action fetch takes the name of one dataset, list takes nothing")
    listed = api.datasets()
    if options.json:
        print(json.dumps([dataclasses.asdict(one) for one in listed]))
        return 0
    print(table_text([["here" if one.present else "-", one.name, one.title, f"{one.images:,} images" if one.images else "",
                   "x".join(map(str, one.image_shape or ())), f"{one.classes} classes" if one.classes else "",
                   one.command] for one in listed]))
    return 0


@dataclasses.dataclass(frozen=True)
class Verb:
    """A verb of the command line.

    Attributes:
        call: function that runs the verb. It is called with (name of the verb, words after it) and returns the exit code.
        text: one line of help.
    """

    call: Callable[[str, list[str]], int]
    text: str


VERBS: dict[str, Verb] = {
    "ui": Verb(_ui, "Start the dashboard in the browser, on this machine only."),
    "search": Verb(_launch, "Search for an architecture; --then retrain,attack trains and attacks it as well."),
    "retrain": Verb(_launch, "Train a network from scratch (--parent SEARCH, --genotype NAME or --network NAME)."),
    "attack": Verb(_launch, "Attack a retrained network on the test split (--parent RETRAIN)."),
    "estimate": Verb(_estimate, "Estimate time, memory and disk space of a launch (estimate search ...); launches nothing."),
    "sweep": Verb(_sweep, "Measure a network's accuracy against the radius and against the number of steps."),
    "transfer": Verb(_transfer, "Attack every network with the adversarial images of every other; print the matrix."),
    "study": Verb(_study, "Compare arms over seeds: launch a study, follow it, and read its answer."),
    "queue": Verb(_queue, "List waiting runs in the order in which they start; pause, continue, move, slots change it."),
    "stop": Verb(_stop, "Stop a run within two seconds, with a checkpoint; --force kills it."),
    "resume": Verb(_resume, "Continue a stopped or failed run from its last checkpoint."),
    "runs": Verb(_runs, "List all runs, newest first; --where EXPRESSION lists some."),
    **{name: Verb(marks.run_verb, text) for name, text in marks.TEXTS.items()},
    "describe": Verb(_describe, "Print parameters and MACs of a genotype at a width and depth."),
    "export": Verb(_export, "Export a network or runs: weights, module, ONNX, genotype, report, TensorBoard, MLflow."),
    "paper": Verb(_paper, "Write the paper pack of a study or of runs: tables, figures, settings, commands, methods."),
    "table": Verb(_robustness_table, "Print or write the table of all networks attacked under one protocol."),
    "compare": Verb(_compare, "Compare results and settings of runs, and test which attacked network is more accurate."),
    "report": Verb(_report, "Write the report of an attacked network as one HTML file."),
    "transplant": Verb(_transplant, "Copy or swap cells of a genotype; print the result for retrain --genotype."),
    "import": Verb(_import, "Turn a genotype, log, alphas file or checkpoint of public code into a run; executes nothing."),
    "dataset": Verb(_dataset, "List the datasets on this machine (list); download and prepare one (fetch NAME)."),
    "sql": Verb(_sql, "Run a read-only SQL query on the run log; at most 10,000 rows and 10 s."),
    "doctor": Verb(_doctor, "Report what this machine offers and what is missing."),
    "reindex": Verb(_reindex, "Delete the index of the run log and build it again."),
    "schema": Verb(_schema, "Print the JSON schema of a kind's settings."),
    "presets": Verb(_presets, "Compare the presets of every kind and method, with sources."),
}
