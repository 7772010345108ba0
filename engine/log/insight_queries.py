"""Queries for the analyses of `engine.insight`: alphas of a cell kind, objectives by epoch, load of the machine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from engine.log.index import INT, NUMBER, TEXT, Index
from engine.log.training_queries import AT_VERTEX

Floats = npt.NDArray[np.float32]
BUCKETS = 200
OBJECTIVE_EPOCHS = {"epoch": INT, "step": INT, "objective": TEXT, "steps": INT, "loss": NUMBER, "weight": NUMBER, "norm": NUMBER,
                    "cosine": NUMBER, "ignored": NUMBER, "alone": NUMBER, "stationarity": NUMBER}
STATIONARITY = {"step": INT, "epoch": INT, "stationarity": NUMBER}
TELEMETRY = {"t": NUMBER, "step": INT, "process_cores": NUMBER, "machine_cpu": NUMBER, "memory_bytes": NUMBER,
             "machine_free_bytes": NUMBER, "machine_bytes": NUMBER, "disk_free_bytes": NUMBER, "unit": TEXT,
             "units_per_s": NUMBER, "passes_per_s": NUMBER}
GPUS = {"t": NUMBER, "step": INT, "device": TEXT, "name": TEXT, "utilisation": NUMBER, "memory_bytes": NUMBER,
        "memory_total_bytes": NUMBER, "temperature_c": NUMBER}
MOST_MEASUREMENTS = 2000
PAIRS = {"step": INT, "epoch": INT, "weight": NUMBER, "first_norm": NUMBER, "second_norm": NUMBER, "cosine": NUMBER}

# Norm of the weighted sum of the gradients in each step, from the weights, the norms and the cosines of all pairs.
# The terms are added up in a fixed order, because another order gives another last digit.
_COMBINED = """
    select a.step, any_value(a.epoch) as epoch,
           sqrt(greatest(0, list_sum(list(
               a.weight * a.norm * b.weight * b.norm * case when a.position = b.position then 1 else a.cosines[b.position + 1] end
               order by a.position, b.position)))) as stationarity
    from objective a join objective b on b.number = a.number and b.step = a.step
    where a.number = $n and b.number = $n group by a.step"""


class InsightQueries(Index):
    """The index's queries for the analyses of `engine.insight`.

    A query about an unknown run returns an empty table or None.
    """

    def objective_epochs(self, run: str) -> pd.DataFrame:
        """Return means over each epoch for every objective, ordered by epoch and objective.

        Columns:
            epoch: the epoch.
            step: last step of the epoch.
            objective: name of the objective.
            steps: number of steps of the epoch in which the objective had a weight.
            loss: mean of the objective's loss.
            weight: mean of the objective's weight.
            norm: mean norm of the objective's gradient.
            cosine: mean, over the steps, of the smallest cosine between the objective's gradient and the gradient of another
                objective.
            ignored: fraction of the steps in which the objective's weight was 0.
            alone: fraction of the steps in which the objective's weight was 1.
            stationarity: mean norm of the weighted sum of all gradients. The coefficients and the normalisation have been
                applied to these gradients.
        """
        return self._frame(f"""
            with combined as ({_COMBINED})
            select o.epoch, max(o.step) as step, objective, count(weight) as steps, avg(loss) as loss, avg(weight) as weight,
                   avg(norm) as norm, avg(cosine) as cosine, avg((weight <= $eps)::int) as ignored,
                   avg((weight >= 1 - $eps)::int) as alone, avg(stationarity) as stationarity
            from objective o left join combined using (step) where number = $n
            group by o.epoch, objective, position order by o.epoch, position""", OBJECTIVE_EPOCHS, run, eps=AT_VERTEX)

    def stationarity(self, run: str, buckets: int = BUCKETS) -> pd.DataFrame:
        """Return the norm of the weighted sum of all gradients by step, with the columns step, epoch and stationarity.

        The steps are divided into `buckets` buckets of equal length, and the smallest and the largest value of each are kept.
        """
        return self._frame(f"""
            with combined as ({_COMBINED}),
            line as (select *, min(step) over () as first, max(step) over () as last from combined
                     where stationarity is not null),
            bucketed as (select *, (step - first) * $buckets // (last - first + 1) as bucket from line)
            select step, epoch, stationarity from bucketed
            qualify row_number() over (partition by bucket order by stationarity, step) = 1
                 or row_number() over (partition by bucket order by stationarity desc, step) = 1
            order by step""", STATIONARITY, run, buckets=buckets)

    def objective_pairs(self, run: str) -> pd.DataFrame:
        """Return the weight, norms and cosine in every step that has exactly two objectives.

        The columns are step, epoch, weight (of the first objective), first_norm, second_norm, and cosine (of the two gradients).
        """
        return self._frame("""
            select step, any_value(epoch) as epoch, min(weight) filter (position = 0) as weight,
                   min(norm) filter (position = 0) as first_norm, min(norm) filter (position = 1) as second_norm,
                   min(cosine) as cosine
            from objective where number = $n group by step having count(*) = 2 order by step""", PAIRS, run)

    def telemetry(self, run: str, most: int = MOST_MEASUREMENTS) -> pd.DataFrame:
        """Return the load of the machine during all attempts of a run, with the columns in `TELEMETRY`, oldest first.

        If there are more than `most` measurements, each row merges several successive ones. The row has the means of loads and
        rates, the largest memory of the worker, the least free memory and disk space, and `t` and `step` of the last measurement.
        """
        return self._frame("""
            with line as (select *, row_number() over (order by seq) - 1 as i, count(*) over () as total
                          from telemetry_raw where number = $n)
            select max(t) as t, arg_max(step, seq) as step, avg(process_cores) as process_cores, avg(machine_cpu) as machine_cpu,
                   max(memory_bytes) as memory_bytes, min(machine_free_bytes) as machine_free_bytes,
                   max(machine_bytes) as machine_bytes, min(disk_free_bytes) as disk_free_bytes, arg_max(unit, seq) as unit,
                   avg(units_per_s) as units_per_s, avg(passes_per_s) as passes_per_s
            from line group by i // cast(ceil(total / $most) as bigint) order by t""", TELEMETRY, run, most=most)

    def gpu_telemetry(self, run: str, most: int = MOST_MEASUREMENTS) -> pd.DataFrame:
        """Return the load of the GPUs that a run used, with the columns in `GPUS`, ordered by device and time.

        If a GPU has more than `most` measurements, each row merges several successive ones. The row has the mean utilisation, the
        largest memory and the highest temperature.
        """
        return self._frame("""
            with line as (select *, row_number() over same - 1 as i, count(*) over (partition by device) as total
                          from gpu_raw where number = $n window same as (partition by device order by seq))
            select max(t) as t, arg_max(step, seq) as step, device, arg_max(name, seq) as name, avg(utilisation) as utilisation,
                   max(memory_bytes) as memory_bytes, max(memory_total_bytes) as memory_total_bytes,
                   max(temperature_c) as temperature_c
            from line group by device, i // cast(ceil(total / $most) as bigint) order by device, t""", GPUS, run, most=most)
