"""What a batch of forecasts is, whoever made it."""

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class ForecastBatch(Protocol):
    """What a forecast loss needs of a batch; `sciml.data.Window` is one.

    ``inputs`` is ``(batch, n_in, channels, *space)``, ``targets`` is
    ``(batch, n_out, channels, *space)``, ``context`` is ``(batch, context_channels, *space)`` or
    None.
    """

    @property
    def inputs(self) -> Any: ...

    @property
    def targets(self) -> Any: ...

    @property
    def context(self) -> Any: ...
