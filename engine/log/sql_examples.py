"""Example queries, which the SQL page offers by title."""

from __future__ import annotations

EXAMPLES: dict[str, str] = {
    "Attacked networks": """\
-- Accuracy of every attacked network, with its interval. Compare rows of one protocol only.
select f.run, e.protocol, a.title as attack,
       round(100 * a.accuracy, 1) as accuracy_percent, round(100 * a.low, 1) as low, round(100 * a.high, 1) as high, a.images
from attack a
join folder f using (number)
left join evaluation e using (number)
where a.complete and a.part_of is null
order by e.protocol, a.attack, a.accuracy desc""",
    "Mean over seeds": """\
-- Networks of the same settings with different seeds: mean, spread and number.
select f.title, e.protocol, a.title as attack, count(*) as networks,
       round(100 * avg(a.accuracy), 1) as mean_percent, round(100 * stddev(a.accuracy), 1) as spread_points
from attack a
join folder f using (number)
left join evaluation e using (number)
where a.complete and a.part_of is null
group by all
order by e.protocol, attack, mean_percent desc""",
    "Alphas over epochs": """\
-- Weight of every operation, averaged over the edges of a cell, at the last step of each epoch.
with last as (
    select number, cell, epoch, arg_max(primitives, step) as primitives, arg_max(weight, step) as weight
    from alpha where epoch > 0 group by all
), flat as (
    select number, cell, epoch, unnest(weight) as weight, len(primitives) as operations,
           generate_subscripts(weight, 1) - 1 as position, primitives
    from last
)
select f.run, cell, epoch, primitives[position % operations + 1] as operation, round(avg(weight), 4) as mean_weight
from flat join folder f using (number)
group by all
order by f.run, cell, epoch, mean_weight desc""",
    "Genotypes that searches found": """\
-- The last genotype of every search, and how often it changed on the way.
select f.run, f.method, arg_max(g.hash, g.step) as genotype, count(distinct g.hash) as different_genotypes, max(g.epoch) as epochs
from genotype g join folder f using (number)
group by all
order by f.run""",
    "Accuracy by epoch": """\
-- Curves of searches and retrainings.
select f.run, f.kind, split, epoch, round(100 * natural_accuracy, 1) as natural_percent,
       round(100 * adversarial_accuracy, 1) as adversarial_percent
from accuracy join folder f using (number)
order by f.run, split, epoch""",
    "Slowest runs": """\
-- Time from the first to the last event, pauses included.
select f.run, f.kind, f.dataset, f.preset, round((i.last_t - f.created) / 60, 1) as minutes, round(i.size / 1e6, 1) as log_mb
from folder f join ingest i using (number)
where i.last_t is not null
order by minutes desc
limit 50""",
    "Test ledger": """\
-- Every time that a run has opened a test split. Results are final only if nothing was chosen by them.
select make_timestamp((o.t * 1e6)::bigint) as opened_utc, f.run, f.dataset, o.images, o.purpose
from opened_raw o join folder f using (number)
where o.split = 'test'
order by o.t""",
    "Settings that differ": """\
-- Settings of the searches side by side, from the JSON of their configuration.
select f.run, f.method, f.preset, config->>'$.seed' as seed, config->>'$.epochs' as epochs, config->>'$.epsilon' as epsilon,
       config->>'$.batch_size' as batch_size
from folder f
where f.kind = 'search'
order by f.run""",
}
