"""Names of derivatives: ``"u_tx"`` is the field ``u``, once by ``t`` and once by ``x``."""


def parse_derivative(
    name: str, fields: tuple[str, ...], coordinates: tuple[str, ...], where: str
) -> tuple[int, tuple[int, ...]]:
    """Return which field is meant and along which axes it is differentiated, in order.

    Raises
    ------
    ValueError
        If a field or a coordinate is unknown; the message names ``where`` it was asked for.

    Examples
    --------
    >>> parse_derivative("v_xxt", ("u", "v"), ("t", "x"), "the block 'pde'")
    (1, (0, 1, 1))
    """
    field, _, letters = name.partition("_")
    if field not in fields or any(letter not in coordinates for letter in letters):
        raise ValueError(
            f"{where} needs {name!r}, which is no derivative of the fields {fields} by the "
            f"coordinates {coordinates}. Write {fields[0]!r}, "
            f"'{fields[0]}_{coordinates[-1]}', '{fields[0]}_{coordinates[-1] * 2}' and the like."
        )
    return fields.index(field), tuple(sorted(coordinates.index(letter) for letter in letters))


def check_names(fields: tuple[str, ...], coordinates: tuple[str, ...]) -> None:
    """Raise unless the names can be told apart: coordinates are single letters."""
    for coordinate in coordinates:
        if len(coordinate) != 1:
            raise ValueError(
                f"`coordinates` must be single letters, as in ('t', 'x'); got {coordinates}."
            )
    if len(set(coordinates)) != len(coordinates) or not coordinates:
        raise ValueError(f"`coordinates` must be distinct and at least one, got {coordinates}.")
    if len(set(fields)) != len(fields) or not fields or any("_" in f or not f for f in fields):
        raise ValueError(
            f"`fields` must be distinct names without underscores, at least one; got {fields}."
        )
