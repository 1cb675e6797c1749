"""All tables of public calls: importing this module fills `property_cases.CALLS`."""

from . import (
    property_data,
    property_graphs,
    property_marches,
    property_models,
    property_numerics,
    property_solvers,
)

TABLES = [
    module.__name__.rpartition(".")[2]
    for module in (
        property_numerics,
        property_graphs,
        property_data,
        property_models,
        property_solvers,
        property_marches,
    )
]
