"""The report of one attacked network as a single HTML file, which loads no other files.

The report has these sections:

* the protocol (the attacks with their settings, and the images),
* the results: accuracies under each attack, accuracies at several attack radii (the sweep), the certified lower bound, and early
  verdicts, which say which of two networks is more robust,
* the reliability checks,
* stored images,
* the cells of the network,
* the curves of search and retraining,
* the configurations, commands and packages of the runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from engine.architecture.genotype import Genotype
from engine.architecture.network import named_network
from engine.attack.badge import Finding, badge
from engine.config.fields import value_words
from engine.configuring import Difference, config_class
from engine.drawing.cell import cell_svg, cell_width, legend_html
from engine.drawing.operations import OPERATIONS, cell_title, in_order
from engine.errors import ConfigError, GenotypeError
from engine.log.runlog import RunLog
from engine.report.curves import training_curves
from engine.report.formats import openings_of
from engine.report.gallery import attack_title, gallery_html, read_samples
from engine.report.latency import latencies_of
from engine.report.limits import certified_section, sweep_section, verdict_section
from engine.report.page import commands, details, page, paragraph, section, table
from engine.report.robustness import RobustnessTable, robustness_tables
from engine.report.words import count_text, dataset_text, ledger_text, percent_text, protocol_text
from engine.run.folder import RunFolder

KIND_TITLES = {"search": "Search", "retrain": "Retraining", "attack": "Attack"}
SPLITS = {"search": "alphas", "retrain": "select"}  # on which a run of this kind measures its accuracies


def network_report(log: RunLog, run: str) -> bytes:
    """Return the report of an attacked network as HTML.

    Args:
        log: the run log.
        run: id of the attack run.

    Raises:
        RunLogError: the run does not exist, or its images cannot be read.
        ConfigError: the run is not an attack.
    """
    chain = _ancestry(log, run)
    attack = chain[-1]
    if attack["kind"] != "attack":
        raise ConfigError(f"A report is about an attacked network, so it needs the id of an attack, got {run}, which is a "
                          f"{attack['kind']}; attack it first, or name one of the attacks that `rampart runs` lists.")
    evaluated = next((one for one in robustness_tables(log) if one.row(run)), None)
    parts = [
        _head(attack), _badge(log, run), _protocol(log, attack, evaluated), _results(log, attack), sweep_section(log, attack),
        certified_section(log, run, evaluated.row(run) if evaluated else None), verdict_section(log, attack), _checks(log, run),
        _network(log, run, attack), _curves(log, chain), _gallery(log, run), _settings(chain), _reproduction(chain)]
    return page(f"{attack['title']}: robustness", "".join(parts))


def attack_of(log: RunLog, run: str) -> str:
    """Return the id of the attack run that a report about a run shows.

    For an attack, this is the run itself. For a retraining, it is the newest attack run with results on the trained network. For
    a search, it is the newest attack run with results among the runs that follow the search.

    Raises:
        ConfigError: no network of this run has been attacked.
        RunLogError: the run does not exist.
    """
    if log.run(run)["kind"] == "attack":
        return run
    below, chain = {run}, log.chain(run)
    for one in chain.itertuples():  # parents come before their followers
        if one.parent in below:
            below.add(one.id)
    attacked = set(log.attacks()["run"])
    found = [one.id for one in chain.itertuples() if one.kind == "attack" and one.id in below & attacked]
    if not found:
        raise ConfigError(f"A report needs an attacked network, and no attack on a network of {run} has results; attack it first "
                          f"(`rampart attack --parent RETRAINING`).")
    return str(max(found))


def _ancestry(log: RunLog, run: str) -> list[dict[str, Any]]:
    """Return the run log's rows of three runs: the search, the retraining, and the attack run `run` on the retrained network.

    Runs that do not exist are left out.
    """
    chain = [log.run(run)]
    known = set(log.runs()["id"])
    while chain[0]["parent"] in known and len(chain) < len(KIND_TITLES):
        chain.insert(0, log.run(chain[0]["parent"]))
    return chain


def _head(attack: Mapping[str, Any]) -> str:
    where = f"Run {attack['id']}, {dataset_text(attack['dataset'])}, preset {attack['preset']}, {attack['status']}."
    return (f"<header>{paragraph('Report of an attacked network', 'soft')}<h1>{escape(str(attack['title']))}</h1>"
            f"{paragraph(where)}</header>\n")


def _badge(log: RunLog, run: str) -> str:
    found = badge(_findings(log, run))
    return paragraph(f"Reliability: {found.colour}. {' '.join(found.reasons)}".strip(), found.colour)


def _findings(log: RunLog, run: str) -> list[Finding]:
    return [Finding(one.check_name, one.title, one.finding, one.measured, one.advice) for one in log.checks(run).itertuples()]


def _protocol(log: RunLog, attack: Mapping[str, Any], evaluated: RobustnessTable | None) -> str:
    if evaluated is None:
        openings = int((log.test_openings()["dataset"] == attack["dataset"]).sum())
        words = "A newer evaluation of this network under the same protocol exists, or the protocol of this run is unknown."
    else:
        openings, words = openings_of(log, evaluated), protocol_text(evaluated)
    ledger = f"{ledger_text(openings)} The more often it is opened, the less a later choice can be trusted."
    return section("Protocol", paragraph(words), paragraph(ledger))


def _results(log: RunLog, attack: Mapping[str, Any]) -> str:
    attacks = list(log.attacks(attack["id"]).itertuples())
    place = {one.attack: position for position, one in enumerate(attacks) if not one.part_of}
    # A suite comes before its parts.
    attacks.sort(key=lambda one: (place.get(one.part_of or one.attack, len(attacks)), bool(one.part_of)))
    rows, looks = [], []
    for one in attacks:
        name = one.title if not one.part_of else f"{one.title} of {attack_title(one.part_of)}"
        interval = f"{percent_text(one.low)} to {percent_text(one.high)}"
        rows.append((name if one.complete else f"{name} (in progress)", f"{percent_text(one.accuracy)} %", interval,
                     f"{one.correct:,} of {one.images:,}", one.fingerprint))
        looks.append("soft" if one.part_of else "")
    note = ("Share of images still classified correctly, with its 95 % Wilson interval. These figures belong to this checkpoint: "
            "a claim about its method needs several searches and retrainings with different seeds.")
    shown = table(("Attack", "Accuracy", "95 % interval", "Correct", "Fingerprint"), rows, label="Results", right=(1, 2, 3),
                  looks=looks)
    if not shown:
        return section("Robustness", paragraph(_without_results(attack["config"])))
    return section("Robustness", shown, paragraph(note, "soft"))


def _without_results(config: Mapping[str, Any]) -> str:
    """Return a sentence that says why an attack run has no results.

    Args:
        config: settings of the attack run.
    """
    if config.get("against"):
        return "This run only compares two networks, so it has no accuracy of its own."
    return "No attack is complete yet." if config.get("attacks") else "This run attacks nothing; it only measures a sweep."


def _checks(log: RunLog, run: str) -> str:
    findings = _findings(log, run)
    titles = ("Check", "Finding", "Measured", "What to do") if any(one.advice for one in findings) else (
        "Check", "Finding", "Measured")
    rows = [(one.title, one.finding, one.measured, one.advice)[:len(titles)] for one in findings]
    shown = table(titles, rows, label="Checks", looks=[one.finding for one in findings])
    return section("Checks", shown or paragraph("The reliability of these figures was not checked."))


def _network(log: RunLog, run: str, attack: Mapping[str, Any]) -> str:
    sizes = [f"{count_text(attack[name])} {words}" for name, words in (("parameters", "parameters"), ("macs", "MACs per image"))
             if attack[name] is not None]
    measured = latencies_of(log).get(run, {}).values()
    latency = f" Latency: {'; '.join(one.words for one in measured)}." if measured else ""
    words = paragraph(f"{', '.join(sizes)}.{latency}" if sizes else "")
    return section("Network", words, _cells(log.genotype(run), attack["hand_made"]))


def _cells(content: Mapping[str, Any] | None, hand_made: str) -> str:
    """Return drawings of a network's cells with a legend, as HTML. For a hand-made network, return a description instead.

    Args:
        content: the genotype as a dict, or None.
        hand_made: name of a hand-made network, or "".
    """
    if hand_made:
        return _hand_made(hand_made)
    try:
        genotype = Genotype.from_dict(content or {})
    except GenotypeError:
        return paragraph("The events of this run contain no genotype.")
    kinds = in_order(genotype.kinds)
    widest = max(cell_width(genotype.cell(kind)) for kind in kinds)
    drawings = "".join(f'<figure class="cell"><figcaption>{escape(cell_title(kind))}</figcaption>'
                       f"{cell_svg(genotype.cell(kind), title=cell_title(kind), widest=widest)}</figure>" for kind in kinds)
    used = {name for kind in kinds for name, _ in genotype.cell(kind).edges}
    legend = legend_html(sorted(used, key=lambda name: [*OPERATIONS, name].index(name)))
    return (f'<div class="side">{drawings}</div>{legend}' + paragraph(f"Genotype {genotype.hash}.", "soft")
            + details("Genotype as JSON", commands([genotype.to_json()])))


def _hand_made(name: str) -> str:
    try:
        network = named_network(name)
    except ConfigError:  # another version of Rampart has written the name
        return paragraph(f"{name} is a hand-made network, without cells to draw.")
    return paragraph(f"{network.title} is hand-made, without cells to draw. {network.description} {network.source}.")


def _curves(log: RunLog, chain: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for run in chain:
        charts = training_curves(log.curves(run["id"]), SPLITS[run["kind"]]) if run["kind"] in SPLITS else ""
        parts += [f"<h3>{escape(KIND_TITLES[run['kind']])} {escape(run['id'])}</h3>{charts}"] if charts else []
    return section("Curves", *parts)


def _gallery(log: RunLog, run: str) -> str:
    path = RunFolder(log.root, run).results / "samples.parquet"
    if not path.is_file():
        return ""
    note = "Natural image, difference stretched around grey, adversarial image. An image that no attack changed is left out."
    images = gallery_html(read_samples(path, log.outcomes(run)))
    return section("Images", paragraph(note, "soft"), images) if images else ""


def _settings(chain: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for run in chain:
        differing = table(("Setting", "This run", "Published or default"), [_difference(run, one) for one in run["differences"]],
                          label=f"Differences of {run['id']}")
        every = table(("Setting", "Value"), [(name, setting_text(run, name, value)) for name, value in run["config"].items()],
                      label=f"Settings of {run['id']}")
        heading = escape(f"{KIND_TITLES.get(run['kind'], run['kind'])} {run['id']}: {run['title']}")
        none = paragraph("No setting is known to differ from the published ones.")
        parts.append(f"<h3>{heading}</h3>{differing or none}{details('All settings', every)}")
    return section("Configuration", *parts)


def _difference(run: Mapping[str, Any], difference: Difference) -> tuple[str, str, str]:
    name = difference.field
    return (name, setting_text(run, name, difference.value), setting_text(run, name, difference.paper))


def setting_text(run: Mapping[str, Any], name: str, value: object) -> str:
    """Return the value of a setting as text, in the same form as on the pages of the dashboard.

    Args:
        run: row of the run in the run log.
        name: name of the setting.
        value: its value.
    """
    try:
        info = config_class(run["kind"], run["method"]).model_fields.get(name)
    except ConfigError:  # a method of another version
        info = None
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value) if info is None else value_words(info, value)


def _reproduction(chain: Sequence[Mapping[str, Any]]) -> str:
    attack = chain[-1]
    lines = [str(run["command"]) for run in chain if run["command"]]
    code = ", ".join(f"{name} {value}" for name, value in attack["code"].items() if value and name != "diff")
    changed = " The code had changes that are not in a commit." if attack["code"].get("diff") else ""
    packages = table(("Package", "Version"), list(attack["packages"].items()), label="Packages")
    return section("Reproduction", commands([*lines, f"rampart report {attack['id']} --out report.html"]),
                   paragraph(f"Code: {code or 'unknown'}.{changed} Device: {attack['device'] or 'unknown'}."),
                   details("Packages", packages))
