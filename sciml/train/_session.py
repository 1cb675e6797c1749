"""The loop of training: steps, log, validation, checkpoints, and every way in which a run ends."""

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from ..core import RESULTS, KeyArray, Solution, throw_if_failed
from ._batches import BatchSource, describe_batch, release_batches
from ._checkpoint import (
    Description,
    Progress,
    describe_model,
    restore_checkpoint,
    write_checkpoint,
    write_model,
)
from ._interrupt import InterruptRequest
from ._metrics import METRICS, MetricsLog
from ._own_samples import agree_on_batches
from ._run_folder import BEST, CHECKPOINT, has_checkpoint
from ._step import StepFigures, TrainingStep
from ._validation import Validator, is_better


class Session:
    """One call of `fit`: from the start, or from a checkpoint, to an end of any kind."""

    def __init__(
        self,
        *,
        source: BatchSource,
        step: TrainingStep,
        validator: Validator | None,
        cadence: tuple[int, int, int],
        n_steps: int,
        key: KeyArray,
        config: dict[str, Any],
        show: bool,
    ):
        self._source, self._step, self._validator = source, step, validator
        self._placement = step.placement
        self._checkpoint_every, self._validate_every, self._log_every = cadence
        self._n_steps, self._key, self._config, self._show = n_steps, key, config, show
        self._folder: Path | None = None
        self.description = Description({}, {})
        self._log = MetricsLog(None, 0)
        self._progress = Progress()
        self._loss = math.nan
        self._failure = ""
        self._started = time.perf_counter()

    def enter(self, folder: Path) -> None:
        """Take up the run in ``folder``, which is locked: restore its checkpoint if it has one."""
        self._folder = folder
        model, optimizer_state = self._step.whole_state()
        self.description = describe_model(model)
        if has_checkpoint(folder):
            model, optimizer_state, self._progress = restore_checkpoint(
                folder / CHECKPOINT,
                self.description,
                model,
                optimizer_state,
                self._key,
                self._config,
            )
            if self._progress.step > self._n_steps:
                raise ValueError(
                    f"the checkpoint in {str(folder)!r} is at step {self._progress.step}, beyond "
                    f"`n_steps` = {self._n_steps}."
                )
            self._step.restore(model, optimizer_state, self._progress.step)
        log = folder / METRICS if self._placement.writes else None
        self._log = MetricsLog(log, self._progress.step)
        if "loss" in (history := self._log.history()):
            self._loss = float(history["loss"][1][-1])

    def run(self, throw: bool) -> Solution:
        """Train to the end, a failure or an interrupt, and report."""
        request = InterruptRequest()
        result: Any = RESULTS.successful
        interrupt: KeyboardInterrupt | None = None
        with request, self._bar() as bar:
            try:
                interrupted = self._loop(request, bar)
            except KeyboardInterrupt as error:
                # Raised by the source of batches, or by a second Ctrl-C.
                interrupted, interrupt = True, error
            finally:
                release_batches(self._source)
            if self._failure:
                result = RESULTS.nonfinite_loss
            elif interrupted:
                if self._progress.step < self._n_steps:
                    result = RESULTS.interrupted
                # Cut in the middle of a step: the state is gone, or not the one that was logged.
                if not self._step.is_alive or self._step.n_done != self._progress.step:
                    raise interrupt or KeyboardInterrupt
                self._save_checkpoint()
        solution = Solution(self._step.model, result, self._stats())
        if throw and interrupted and not self._failure:
            raise interrupt or KeyboardInterrupt
        return throw_if_failed(solution, self._failure) if throw else solution

    def _loop(self, request: InterruptRequest, bar: "tqdm.tqdm") -> bool:
        """Run until all steps are done; return whether Ctrl-C was pressed."""
        # The figures of a step are looked at after the next one has been handed to the device,
        # so that the device never waits for Python.
        pending: tuple[int, StepFigures] | None = None
        first = self._progress.step
        try:
            for step in range(first, self._n_steps):
                if self._stops(request, step):
                    return True
                batch = self._fetch(step)
                figures = self._step.advance(batch, step)
                previous, pending = pending, (step, figures)
                if not self._observe(previous, bar):
                    return False
                done = step + 1
                at_end = done == self._n_steps
                validate = done % self._validate_every == 0 or at_end
                save = done % self._checkpoint_every == 0 or at_end
                if validate or save:
                    previous, pending = pending, None
                    if not self._observe(previous, bar):
                        return False
                    agree_on_batches(self._source)  # should the loss pass over NaN
                    if validate:
                        self._validate(done)
                    if save:
                        self._save_checkpoint()
            return self._placement.any_process(request.requested)
        finally:
            # Whatever ended the loop, the step that was under way counts. Its buffers may be gone
            # if an interrupt hit the dispatch itself.
            if pending is not None and not self._failure and self._step.is_alive:
                self._observe(pending, bar)

    def _stops(self, request: InterruptRequest, step: int) -> bool:
        """Return whether Ctrl-C was pressed; several processes agree on that where they log."""
        if self._placement.n_processes == 1:
            return request.requested
        return step % self._log_every == 0 and self._placement.any_process(request.requested)

    def _fetch(self, step: int) -> Any:
        try:
            return self._source[step]
        except Exception as error:
            error.add_note(f"This happened while fetching the batch of training step {step}.")
            raise

    def _observe(self, pending: tuple[int, StepFigures] | None, bar: "tqdm.tqdm") -> bool:
        """Wait for a step, log it and return whether it was a good one."""
        if pending is None:
            return True
        step, figures = pending
        loss, norm, applied = (float(x) for x in np.asarray(figures.summary))
        done = step + 1
        if not applied:
            self._fail(step, loss, norm)
            return False
        self._loss = loss
        self._progress = self._progress._replace(step=done)
        if done == 1 or done % self._log_every == 0 or done == self._n_steps:
            auxiliary = {name: float(x) for name, x in figures.auxiliary.items()}
            self._log.write(
                {
                    "step": done,
                    "loss": loss,
                    "gradient_norm": norm,
                    "seconds": round(self._seconds(), 3),
                    **auxiliary,
                }
            )
        bar.set_description_str("training", refresh=False)
        bar.set_postfix_str(f"loss {loss:.3e}", refresh=False)
        bar.update()
        return True

    def _fail(self, step: int, loss: float, norm: float) -> None:
        self._failure = "a part of the batch could not be read"  # it stops training as well
        agree_on_batches(self._source)
        kept = ""
        if self._folder is not None:
            kept = (
                f" The last checkpoint is kept in {str(self._folder / CHECKPOINT)!r}."
                if has_checkpoint(self._folder)
                else " There is no checkpoint yet."
            )
        self._failure = (
            f"Training step {step} is not finite: loss {loss}, gradient norm {norm}; it used "
            f"{describe_batch(self._source, step)}.{kept}"
        )
        self._log.write({"step": step + 1, "loss": loss, "gradient_norm": norm, "event": "stopped"})

    def _validate(self, done: int) -> None:
        if self._validator is None:
            return
        model = self._step.copy_of_model()
        figures = self._validator(model)
        self._log.write({"step": done, **figures})
        value = next(iter(figures.values()))
        if is_better(value, self._progress.best_value):
            self._progress = self._progress._replace(best_value=value, best_step=done)
            if self._folder is not None and self._placement.writes:
                write_model(self._folder / BEST, self.description, model)

    def _save_checkpoint(self) -> None:
        if self._folder is None:
            return
        model, optimizer_state = self._step.whole_state()
        if not self._placement.writes:
            return
        self._log.flush_to_disk()
        write_checkpoint(
            self._folder / CHECKPOINT,
            self.description,
            model,
            optimizer_state,
            self._key,
            self._progress._replace(seconds=self._seconds()),
            self._config,
        )

    def _seconds(self) -> float:
        # `seconds` of the progress is the time of earlier sessions: it changes at loading only.
        return self._progress.seconds + time.perf_counter() - self._started

    @contextlib.contextmanager
    def _bar(self) -> Iterator["tqdm.tqdm"]:
        with tqdm.tqdm(
            total=self._n_steps,
            initial=self._progress.step,
            desc="compiling",
            unit="step",
            dynamic_ncols=True,
            disable=not (self._show and self._placement.writes),
        ) as bar:
            yield bar

    def _stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = {
            "n_steps": self._progress.step,
            "loss": self._loss,
            "seconds": self._seconds(),
            "history": self._log.history(),
        }
        if self._progress.best_value is not None:
            stats["best_value"] = self._progress.best_value
            stats["best_step"] = self._progress.best_step
        return stats
