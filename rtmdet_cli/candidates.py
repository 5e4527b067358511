"""The candidates of `rtmdet benchmark`: models, each on a backend, in a precision and with a number of threads."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rtmdet_runtime.backends import precisions_of, readers_of

if TYPE_CHECKING:
    from rtmdet_runtime import RTMDetector

PYTORCH = 'PyTorch'


@dataclass(frozen=True)
class Candidate:
    """A model and how it runs.

    Attributes:
        model: file of the model.
        backend: a name of `BACKENDS`, or `PYTORCH`.
        precision: precision that it runs in.
        threads: number of CPU threads; None for the backend's default.
        settings: further arguments of `RTMDetector` or `RTMDetPredictor` that aren't its defaults, with their values.
        requested: precision that was asked for, such as 'auto'. It doesn't distinguish candidates.
    """

    model: str
    backend: str
    precision: str
    threads: int | None
    settings: tuple[tuple[str, object], ...] = ()
    requested: str = field(default='auto', compare=False)

    def __str__(self) -> str:
        """Return all settings as one line."""
        threads = [f'{self.threads} threads'] if self.threads else []
        settings = [f'{name} {_words(value)}' for name, value in self.settings]
        return ', '.join([self.model, self.backend, self.precision, *threads, *settings])

    def usage(self) -> dict[str, str]:
        """Return how to run the model in this way, on the command line and in Python."""
        given = dict(threads=self.threads, **dict(self.settings))
        if self.requested != 'auto':
            given['precision'] = self.requested
        arguments = ', '.join(f'{name}={value!r}' for name, value in given.items())
        if self.backend == PYTORCH:
            return dict(python=f'RTMDetPredictor(CONFIG, {self.model!r}, {arguments})')
        options = ' '.join(f'--{name.replace("_", "-")} {_words(value)}' for name, value in given.items())
        return dict(
            command=f'rtmdet predict {shlex.quote(self.model)} IMAGES --backend {self.backend} {options}',
            python=f'RTMDetector({self.model!r}, backend={self.backend!r}, {arguments})',
        )


def _words(value: object) -> str:
    """Return a value as on the command line."""
    return ' '.join(map(str, value)) if isinstance(value, tuple) else str(value)


def open_models(
    models: Sequence[Path],
    backends: Sequence[str],
    threads: Sequence[int],
    precisions: Sequence[str],
    **settings,
) -> dict[Candidate, RTMDetector]:
    """Open exported models on every selected backend that reads them, with each precision and number of threads.

    Args:
        models: exported models.
        backends: selected backends; if there are none, the default backend of each file.
        threads: numbers of threads; if there are none, the backend's default.
        precisions: precisions; a backend that has none of them runs in its default.
        settings: further arguments of `RTMDetector`.

    Raises:
        ValueError: if no selected backend reads a model; see `RTMDetector` as well.
    """
    from rtmdet_runtime import RTMDetector

    given = tuple((name, value) for name, value in settings.items() if value is not None)
    detectors = {}
    for model in models:
        readers = readers_of(model)
        chosen = [name for name in readers if name in backends] if backends else readers[:1] or [None]
        if not chosen:
            raise ValueError(f'--backend must be {" or ".join(readers)} for {model}, got {", ".join(backends)}')
        for backend, count in itertools.product(chosen, threads or (None,)):
            for precision in [name for name in precisions if name in precisions_of(str(backend))] or ['auto']:
                detector = RTMDetector(model, backend=backend, threads=count, precision=precision, **settings)
                candidate = Candidate(str(model), str(backend), detector.backend.precision, count, given, precision)
                detectors.setdefault(candidate, detector)
    return detectors


def open_checkpoint(
    config: str,
    checkpoint: str,
    threads: Sequence[int],
    precisions: Sequence[str],
    *,
    device: str,
    compile: bool,
    cuda_graphs: bool,
    **settings,
) -> dict[Candidate, RTMDetector]:
    """Open a checkpoint in PyTorch with each precision and number of threads; 'auto' is float32."""
    import torch

    from rtmdet_plugin.inference.predictor import RTMDetPredictor

    switches = dict(device=device, compile=compile, cuda_graphs=cuda_graphs)
    given = tuple((name, value) for name, value in (switches | settings).items() if value not in (False, 'cpu', None))
    default = torch.get_num_threads() if device == 'cpu' else None
    wanted = dict.fromkeys('float32' if precision == 'auto' else precision for precision in precisions)
    return {
        Candidate(checkpoint, PYTORCH, precision, count, given, precision): RTMDetPredictor(
            config, checkpoint, precision=precision, threads=count, **switches, **settings
        )
        for precision, count in itertools.product(wanted, threads or (default,))
    }
